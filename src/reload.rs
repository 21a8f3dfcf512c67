//! Values that are made of files, and made again when the files change.

use std::{
    error::Error,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

/// How often the files are looked at. A mounted Secret changes by its directory's link, and some file
/// systems tell of no change at all, so they are read: they are few and small.
const INTERVAL: Duration = Duration::from_secs(5);
/// Larger files are not what was meant.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError<E: Error> {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the files hold is no value.
    #[error("{}: {source}", names(paths))]
    Invalid {
        /// All of them.
        paths: Vec<PathBuf>,
        /// Why.
        source: E,
    },
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

/// What the files held, in their order.
pub type Contents = Vec<Vec<u8>>;

/// A value that follows its files: a change that is no valid value is logged, and the last valid
/// one stays.
#[derive(Clone)]
pub struct Reloaded<T> {
    current: watch::Receiver<Arc<T>>,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Makes the value of `paths`, of which there is at least one, and follows them until nobody has
    /// it any more. Needs a runtime.
    ///
    /// # Errors
    /// When the files hold no value now.
    pub fn open<E>(
        paths: Vec<PathBuf>,
        make: impl Fn(&Contents) -> Result<T, E> + Send + 'static,
    ) -> Result<Self, ReloadError<E>>
    where
        E: Error + Send + 'static,
    {
        let contents = read(&paths)?;
        let value = make(&contents).map_err(|source| invalid(&paths, source))?;
        let (sender, current) = watch::channel(Arc::new(value));
        tokio::spawn(follow(paths, contents, make, sender));
        Ok(Self { current })
    }

    /// The value as it is now.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        self.current.borrow().clone()
    }
}

async fn follow<T, E: Error + Send + 'static>(
    paths: Vec<PathBuf>,
    contents: Contents,
    make: impl Fn(&Contents) -> Result<T, E>,
    sender: watch::Sender<Arc<T>>,
) {
    let mut seen = Ok(contents);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            () = sleep(INTERVAL) => {}
        }
        let asked = paths.clone();
        let Ok(read) = spawn_blocking(move || read::<E>(&asked)).await else {
            // The runtime is ending.
            return;
        };
        let read = read.map_err(|error| error.to_string());
        if read == seen {
            continue;
        }
        let made = read.as_ref().map_err(Clone::clone).and_then(|contents| {
            make(contents).map_err(|source| invalid(&paths, source).to_string())
        });
        match made {
            Ok(value) => {
                tracing::info!(files = ?paths, "read again after a change");
                sender.send_replace(Arc::new(value));
            }
            Err(reason) => {
                tracing::error!(%reason, "a change is not taken: what was read before stays");
            }
        }
        seen = read;
    }
}

fn invalid<E: Error>(paths: &[PathBuf], source: E) -> ReloadError<E> {
    ReloadError::Invalid {
        paths: paths.to_vec(),
        source,
    }
}

fn read<E: Error>(paths: &[PathBuf]) -> Result<Contents, ReloadError<E>> {
    let unreadable = |path: &Path, source| ReloadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    paths
        .iter()
        .map(|path| read_file(path).map_err(|source| unreadable(path, source)))
        .collect()
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "it has more than {MAX_BYTES} bytes"
        )));
    }
    Ok(content)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn number(contents: &Contents) -> Result<u32, std::num::ParseIntError> {
        String::from_utf8_lossy(&contents[0]).trim().parse()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        fs::write(&path, "1").unwrap();
        let mut reloaded = Reloaded::open(vec![path.clone()], number).unwrap();
        assert_eq!(*reloaded.current(), 1);
        fs::write(&path, "2").unwrap();
        reloaded.current.changed().await.unwrap();
        assert_eq!(*reloaded.current(), 2);
        fs::write(&path, "two").unwrap();
        sleep(3 * INTERVAL).await;
        fs::remove_file(&path).unwrap();
        sleep(3 * INTERVAL).await;
        assert!(!reloaded.current.has_changed().unwrap());
        fs::write(&path, "3").unwrap();
        reloaded.current.changed().await.unwrap();
        assert_eq!(*reloaded.current(), 3);
    }

    #[tokio::test]
    async fn a_file_that_is_missing_bad_or_too_large_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let open = || match Reloaded::open(vec![path.clone()], number) {
            Ok(_) => panic!("it is none"),
            Err(error) => error.to_string(),
        };
        assert!(open().starts_with("cannot read "));
        fs::write(&path, "one").unwrap();
        assert!(open().contains("number: invalid digit"));
        fs::write(&path, vec![b'1'; 2 << 20]).unwrap();
        assert!(open().contains("more than 1048576 bytes"));
    }
}
