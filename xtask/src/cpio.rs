//! A writer of initramfs archives ("newc" cpio, as the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst` defines it).
//!
//! The same input gives the same bytes: no times, no owners, inode numbers in
//! order of appearance.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const PAGE: u64 = 4096;
/// The magic number and thirteen fields of eight digits.
const HEADER_SIZE: u64 = 110;
/// Longer names (with their terminator) are not read by Linux: its `PATH_MAX`.
const NAME_MAX: usize = 4096;

const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_REGULAR: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const TYPE_CHARACTER: u32 = 0o020_000;

/// An archive under construction. Paths are relative to the archive's root.
pub(crate) struct Archive<W> {
    output: W,
    written: u64,
    next_inode: u32,
}

/// What one entry's header says.
#[derive(Default)]
struct Header {
    mode: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
}

impl Header {
    fn of_file(permissions: u32, content: &[u8]) -> Result<Self> {
        Ok(Self {
            mode: TYPE_REGULAR | permissions,
            links: 1,
            size: u32::try_from(content.len()).context("a file of 4 GiB or more")?,
            ..Self::default()
        })
    }
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(output: W) -> Self {
        Self {
            output,
            written: 0,
            next_inode: 1,
        }
    }

    pub(crate) fn directory(&mut self, path: &str, permissions: u32) -> io::Result<()> {
        let header = Header {
            mode: TYPE_DIRECTORY | permissions,
            links: 2,
            ..Header::default()
        };
        self.entry(path.as_bytes(), &header, &[])
    }

    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        let header = Header::of_file(permissions, content)?;
        Ok(self.entry(path.as_bytes(), &header, content)?)
    }

    /// A file whose content begins at a multiple of a page, so that a kernel can
    /// use it where it lies: zeros after the name fill what is missing.
    pub(crate) fn aligned_file(
        &mut self,
        path: &str,
        permissions: u32,
        content: &[u8],
    ) -> Result<()> {
        let name_starts = self.written + HEADER_SIZE;
        let content_starts = (name_starts + path.len() as u64 + 1).next_multiple_of(PAGE);
        let mut name = path.as_bytes().to_vec();
        name.resize((content_starts - name_starts) as usize - 1, 0);
        ensure!(name.len() < NAME_MAX, "{path} cannot be aligned here");
        let header = Header::of_file(permissions, content)?;
        Ok(self.entry(&name, &header, content)?)
    }

    pub(crate) fn symlink(&mut self, path: &str, target: &[u8]) -> io::Result<()> {
        let header = Header {
            mode: TYPE_SYMLINK | 0o777,
            links: 1,
            size: u32::try_from(target.len()).map_err(io::Error::other)?,
            ..Header::default()
        };
        self.entry(path.as_bytes(), &header, target)
    }

    pub(crate) fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        let header = Header {
            mode: TYPE_CHARACTER | permissions,
            links: 1,
            device: (major, minor),
            ..Header::default()
        };
        self.entry(path.as_bytes(), &header, &[])
    }

    /// Adds what lies at `source`, a folder with all that it holds, as `path`.
    ///
    /// Sockets, pipes and devices are left out.
    pub(crate) fn tree(&mut self, path: &str, source: &Path) -> Result<()> {
        let context = || format!("pack {}", source.display());
        let metadata = fs::symlink_metadata(source).with_context(context)?;
        let permissions = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            self.directory(path, permissions)?;
            for child in sorted_children(source).with_context(context)? {
                let Some(name) = child.file_name().and_then(|name| name.to_str()) else {
                    bail!("pack {}: its name is not UTF-8", child.display());
                };
                self.tree(&format!("{path}/{name}"), &child)?;
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(source).with_context(context)?;
            self.symlink(path, target.as_os_str().as_bytes())?;
        } else if metadata.is_file() {
            let content = fs::read(source).with_context(context)?;
            self.file(path, permissions, &content)
                .with_context(context)?;
        }
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.next_inode = 0;
        let header = Header {
            links: 1,
            ..Header::default()
        };
        self.entry(b"TRAILER!!!", &header, &[])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn entry(&mut self, path: &[u8], header: &Header, content: &[u8]) -> io::Result<()> {
        const MAGIC: &str = "070701";
        let path_size = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        let (major, minor) = header.device;
        let fields = [
            self.next_inode,
            header.mode,
            0, // owner
            0, // group
            header.links,
            0, // time of modification
            header.size,
            0, // major and minor number of the containing device
            0,
            major,
            minor,
            path_size,
            0, // checksum, unused in this format
        ];
        self.next_inode += 1;
        self.write(MAGIC.as_bytes())?;
        for field in fields {
            self.write(format!("{field:08x}").as_bytes())?;
        }
        self.write(path)?;
        self.write(&[0])?;
        self.pad()?;
        self.write(content)?;
        self.pad()
    }

    /// Header and content each begin at a multiple of four.
    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.write(&[0; 3][..missing as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.output.write_all(bytes)
    }
}

fn sorted_children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    children.sort();
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::Archive;

    fn example() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev", 0o755).unwrap();
        archive
            .character_device("dev/console", 0o600, (5, 1))
            .unwrap();
        archive.file("init", 0o755, b"hello").unwrap();
        archive.symlink("sh", b"init").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn an_entry_has_the_layout_of_the_specification() {
        let mut archive = Archive::new(Vec::new());
        archive.file("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let expected = concat!(
            "070701",
            "00000001", // inode
            "000081ed", // mode
            "00000000",
            "00000000",
            "00000001", // links
            "00000000",
            "00000005", // size
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000005", // size of the name with its terminator
            "00000000",
            "init\0\0", // one byte pads 110 + 5 to 116
            "hello\0\0\0",
        );
        assert_eq!(&bytes[..expected.len()], expected.as_bytes());
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(example(), example());
    }

    #[test]
    fn content_can_be_aligned_to_a_page() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev", 0o755).unwrap();
        archive.aligned_file("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[4096..4101], b"hello");
        let name = 116 + 110;
        assert_eq!(&bytes[name..name + 5], b"init\0");
        let name_size = format!("{:08x}", 4096 - name);
        assert_eq!(&bytes[116 + 94..116 + 102], name_size.as_bytes());
    }

    #[test]
    fn every_entry_is_aligned() {
        assert_eq!(example().len() % 4, 0);
    }
}
