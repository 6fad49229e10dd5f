//! The directory in which containers are recorded.
//!
//! `containers/<id>/` belongs to whoever holds a lock on the directory itself.
//! A file in it is replaced as a whole (written aside, synced, renamed), so
//! that readers need no lock and a crash leaves the old or the new.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::id::ContainerId;
use crate::process::ProcessRef;
use crate::state::State;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";

/// Why the record of a container could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// There is no such container.
    #[error("container {id} does not exist")]
    NotFound {
        /// The id asked for.
        id: ContainerId,
    },
    /// There is one already.
    #[error("container id {id} is in use; delete that container first, or choose another id")]
    InUse {
        /// The id asked for.
        id: ContainerId,
    },
    /// A file of ours holds something else.
    #[error("{} is damaged; `bulkhead delete --force` removes the container", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it is.
        source: serde_json::Error,
    },
    /// The file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

impl StoreError {
    fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source: source.into(),
        }
    }
}

/// The state directory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// The one at `root`, which need not exist yet.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the sandbox of this id has its sockets and logs.
    pub(crate) fn sandbox_dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join("sandboxes").join(id.as_str())
    }

    fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join("containers").join(id.as_str())
    }

    /// Takes an id that no container has.
    pub(crate) fn reserve(&self, id: &ContainerId) -> Result<Entry, StoreError> {
        make_directory(&self.root.join("containers"), true)?;
        let in_use = || StoreError::InUse { id: id.clone() };
        let dir = self.container_dir(id);
        match make_directory(&dir, false) {
            Ok(()) => {}
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            }
            Err(error) => return Err(error),
        }
        // A directory without a state is being filled by whoever has the lock,
        // or was left behind by a crash, and then anybody may have it.
        match Entry::lock(&dir, FlockOperation::NonBlockingLockExclusive)? {
            Some(entry) if !dir.join(STATE).exists() => Ok(entry),
            _ => Err(in_use()),
        }
    }

    /// Takes hold of an existing container's record; waits for other commands
    /// that hold it.
    pub(crate) fn entry(&self, id: &ContainerId) -> Result<Entry, StoreError> {
        Entry::lock(&self.container_dir(id), FlockOperation::LockExclusive)?
            .ok_or_else(|| StoreError::NotFound { id: id.clone() })
    }

    /// Reads a container's state.
    pub(crate) fn state(&self, id: &ContainerId) -> Result<State, StoreError> {
        read(&self.container_dir(id).join(STATE))?
            .ok_or_else(|| StoreError::NotFound { id: id.clone() })
    }

    /// The user whose container it is.
    pub(crate) fn owner(&self, id: &ContainerId) -> Result<u32, StoreError> {
        let path = self.container_dir(id).join(STATE);
        let metadata = fs::metadata(&path).map_err(StoreError::io("inspect", &path))?;
        Ok(metadata.uid())
    }

    /// Changes the state of the container that `monitor` stands for. By now
    /// the id may be another one's, which is left alone.
    pub(crate) fn update(
        &self,
        id: &ContainerId,
        monitor: ProcessRef,
        change: impl FnOnce(&mut State),
    ) -> Result<(), StoreError> {
        let entry = self.entry(id)?;
        match entry.state()? {
            Some(mut state) if state.monitor == monitor => {
                change(&mut state);
                entry.write_state(&state)
            }
            _ => Err(StoreError::NotFound { id: id.clone() }),
        }
    }

    /// Reads the configuration that a container was created from.
    pub(crate) fn config<T: DeserializeOwned>(&self, id: &ContainerId) -> Result<T, StoreError> {
        read(&self.container_dir(id).join(CONFIG))?
            .ok_or_else(|| StoreError::NotFound { id: id.clone() })
    }

    /// The containers there are, in the order of their ids.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>, StoreError> {
        let containers = self.root.join("containers");
        let entries = match fs::read_dir(&containers) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StoreError::io("list", &containers)(e)),
        };
        let mut ids: Vec<_> = entries
            .flatten()
            .filter_map(|entry| ContainerId::parse(entry.file_name().to_str()?).ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

/// A container's record, held against other commands.
#[derive(Debug)]
pub(crate) struct Entry {
    dir: PathBuf,
    // Its lock goes with the descriptor.
    _lock: File,
}

impl Entry {
    /// `None` if there is no such directory, or if somebody else holds it and
    /// `operation` does not wait.
    fn lock(dir: &Path, operation: FlockOperation) -> Result<Option<Self>, StoreError> {
        let lock = match File::open(dir) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("open", dir)(e)),
        };
        match rustix::fs::flock(&lock, operation) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(StoreError::io("lock", dir)(errno)),
        }
        // While we waited it may have been removed, or even made anew.
        let locked = lock.metadata().map_err(StoreError::io("inspect", dir))?;
        let is_current = fs::metadata(dir)
            .is_ok_and(|now| (now.dev(), now.ino()) == (locked.dev(), locked.ino()));
        Ok(is_current.then(|| Self {
            dir: dir.to_owned(),
            _lock: lock,
        }))
    }

    /// Reads the state.
    pub(crate) fn state(&self) -> Result<Option<State>, StoreError> {
        read(&self.dir.join(STATE))
    }

    /// Reads the configuration that the container was created from, or a part
    /// of it.
    pub(crate) fn config<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        read(&self.dir.join(CONFIG))
    }

    /// Replaces the state.
    pub(crate) fn write_state(&self, state: &State) -> Result<(), StoreError> {
        write(&self.dir.join(STATE), state)
    }

    /// Keeps the configuration that the container is made from: what `exec`
    /// goes by, whatever happens to the bundle.
    pub(crate) fn write_config<T: Serialize>(&self, config: &T) -> Result<(), StoreError> {
        write(&self.dir.join(CONFIG), config)
    }

    /// Forgets the container. The id is free from here on.
    pub(crate) fn remove(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.dir).map_err(StoreError::io("remove", &self.dir))
    }
}

fn make_directory(path: &Path, recursive: bool) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(recursive)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io("make the directory", path))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| StoreError::Damaged {
                    path: path.to_owned(),
                    source,
                })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io("read", path)(e)),
    }
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let aside = path.with_extension("json.new");
    let replace = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    replace().map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Phase;
    use crate::state::tests::state;

    fn store() -> (tempfile::TempDir, Store, ContainerId) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("state"));
        (directory, store, ContainerId::parse("box").unwrap())
    }

    #[test]
    fn record_survives_and_goes() {
        let (_directory, store, id) = store();
        let entry = store.reserve(&id).unwrap();
        entry.write_state(&state("box", Phase::Created)).unwrap();
        drop(entry);
        assert_eq!(store.ids().unwrap(), std::slice::from_ref(&id));
        assert_eq!(store.state(&id).unwrap().phase, Phase::Created);
        store.entry(&id).unwrap().remove().unwrap();
        assert!(matches!(store.state(&id), Err(StoreError::NotFound { .. })));
        assert_eq!(store.ids().unwrap(), []);
    }

    #[test]
    fn id_is_taken_once() {
        let (_directory, store, id) = store();
        let entry = store.reserve(&id).unwrap();
        assert!(matches!(store.reserve(&id), Err(StoreError::InUse { .. })));
        entry.write_state(&state("box", Phase::Creating)).unwrap();
        drop(entry);
        assert!(matches!(store.reserve(&id), Err(StoreError::InUse { .. })));
    }

    #[test]
    fn id_abandoned_by_a_crash_is_free() {
        let (_directory, store, id) = store();
        drop(store.reserve(&id).unwrap());
        store.reserve(&id).unwrap();
    }

    #[test]
    fn removed_while_waiting_is_not_found() {
        let (_directory, store, id) = store();
        let entry = store.reserve(&id).unwrap();
        let waiter = std::thread::spawn({
            let (store, id) = (store.clone(), id.clone());
            move || store.entry(&id).map(drop)
        });
        // Whether it waits already or comes too late, the answer is the same.
        entry.remove().unwrap();
        assert!(matches!(
            waiter.join().unwrap(),
            Err(StoreError::NotFound { .. })
        ));
    }

    #[test]
    fn update_is_for_one_container_and_not_for_its_successor() {
        let (_directory, store, id) = store();
        let created = state("box", Phase::Created);
        let entry = store.reserve(&id).unwrap();
        entry.write_state(&created).unwrap();
        drop(entry);
        let run = |state: &mut State| state.advance(Phase::Running);
        let stranger = serde_json::from_str(r#"{"pid":1,"start_time":0}"#).unwrap();
        let error = store.update(&id, stranger, run).unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }));
        assert_eq!(store.state(&id).unwrap().phase, Phase::Created);
        store.update(&id, created.monitor, run).unwrap();
        assert_eq!(store.state(&id).unwrap().phase, Phase::Running);
    }

    #[test]
    fn damaged_state_is_named() {
        let (_directory, store, id) = store();
        let entry = store.reserve(&id).unwrap();
        entry.write_state(&state("box", Phase::Created)).unwrap();
        fs::write(entry.dir.join(STATE), "{").unwrap();
        let error = store.state(&id).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }));
        assert!(error.to_string().contains("state.json"));
    }
}
