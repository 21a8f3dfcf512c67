//! The root file system that the sandboxes of a pool read.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::template::Template;

/// Directories of the machine that a sandbox without a root file system of its own reads, with
/// what links to them (on a merged-/usr system /bin is a link into /usr).
const HOST_DIRS: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What programs need of /etc: the linker's cache, links that Debian's commands go through, and what
/// plots need: Debian's matplotlib does not start without its file, and fontconfig complains.
const HOST_ETC: [&str; 4] = ["ld.so.cache", "alternatives", "fonts", "matplotlibrc"];
/// Where volumes and the agent are mounted.
const MOUNT_POINTS: [&str; 8] = [
    "dev",
    "proc",
    "sys",
    "tmp",
    "workspace",
    "home/sandbox",
    "run/sandpool",
    "sandpool",
];

/// A directory that is the sandbox's root, and what is bound into it.
pub(super) struct Rootfs {
    pub(super) root: PathBuf,
    pub(super) binds: Vec<(String, PathBuf)>,
}

impl Rootfs {
    /// Uses the given root file system, after making the mount points that it lacks; or makes one
    /// below `state_dir` that shows the machine's own programs.
    pub(super) fn prepare(template: &Template, state_dir: &Path) -> io::Result<Self> {
        if let Some(root) = &template.rootfs {
            mount_points(root)?;
            return Ok(Self {
                root: root.clone(),
                binds: Vec::new(),
            });
        }
        let root = state_dir.join(format!("rootfs-{}-{}", template.user, template.group));
        mount_points(&root)?;
        let mut binds = Vec::new();
        for name in HOST_DIRS {
            let host = Path::new("/").join(name);
            let Ok(meta) = fs::symlink_metadata(&host) else {
                continue;
            };
            if meta.is_symlink() {
                replace_link(&fs::read_link(&host)?, &root.join(name))?;
            } else {
                fs::create_dir_all(root.join(name))?;
                binds.push((format!("/{name}"), host));
            }
        }
        let etc = root.join("etc");
        fs::create_dir_all(&etc)?;
        for name in HOST_ETC {
            copy(&Path::new("/etc").join(name), &etc.join(name))?;
        }
        let (user, group) = (template.user, template.group);
        fs::write(
            etc.join("passwd"),
            format!(
                "root:x:0:0:root:/:/usr/sbin/nologin\nsandbox:x:{user}:{group}:sandbox:/home/sandbox:/bin/sh\n"
            ),
        )?;
        fs::write(
            etc.join("group"),
            format!("root:x:0:\nsandbox:x:{group}:\n"),
        )?;
        fs::write(etc.join("hosts"), "127.0.0.1 localhost sandbox\n")?;
        Ok(Self { root, binds })
    }
}

fn mount_points(root: &Path) -> io::Result<()> {
    for name in MOUNT_POINTS {
        fs::create_dir_all(root.join(name))?;
    }
    let agent = root.join("sandpool/agent");
    if !agent.exists() {
        fs::write(&agent, "")?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Copies a file, or a directory of links; what is missing is left out.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(from) else {
        return Ok(());
    };
    if meta.is_symlink() {
        return replace_link(&fs::read_link(from)?, to);
    }
    if !meta.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => symlink(target, link),
    }
}
