//! Guest memory.

use vm_memory::GuestMemoryMmap;

/// All of a guest's RAM. A clone is another handle on the same memory.
pub type GuestMemory = GuestMemoryMmap;
