//! The directories that criu reads and writes: images, log, and which pipes the standard streams were.
//!
//! A directory of images may come from anywhere, and criu opens what is in it as root, through any link. So all that is
//! done here goes through a descriptor and through no link, and criu is not let near a directory whose entries are not
//! plain files: a link `pages-1.img` to /etc/shadow would be memory of the container, one called `restore.log` would
//! be overwritten.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::options::{DUMP_LOG, Places, RESTORE_LOG, Wishes};
use crate::{Error, ErrorKind};

/// What the standard streams of the container's init were: a JSON list of three strings, as runc writes it.
const DESCRIPTORS: &str = "descriptors.json";

/// Longest such list that is read, in bytes.
const MAX_DESCRIPTORS: u64 = 64 << 10;

/// The link to the directory of an earlier pre-dump.
const PARENT: &str = "parent";

/// So many pre-dumps may follow each other.
const MAX_PARENTS: usize = 100;

/// Longest log that is searched for errors, in bytes.
const MAX_LOG: u64 = 16 << 20;

/// Longest line of the log that is quoted, in characters.
const MAX_QUOTE: usize = 300;

/// What criu makes in the work directory, replacing what is there.
const OWN_FILES: [&str; 4] = [DUMP_LOG, RESTORE_LOG, "stats-dump", "stats-restore"];

/// The directories of one checkpoint or restore.
#[derive(Debug)]
pub(crate) struct Images {
    images: Place,
    work: Option<Place>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    fd: OwnedFd,
}

impl Images {
    /// Makes and opens the directories for a checkpoint.
    ///
    /// # Errors
    /// A parent that is no directory below; what [`Images::for_restore`] refuses.
    pub(crate) fn for_dump(wishes: &Wishes) -> Result<Images, Error> {
        make(&wishes.images)?;
        let images = Images::open(wishes)?;
        if let Some(parent) = &wishes.parent {
            let refuse =
                |why: &str| Error::new(format!("--parent-path {parent:?} {why}")).kind(ErrorKind::Invalid);
            if parent.is_absolute() {
                return Err(refuse("must be relative to --image-path"));
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            openat(&images.images.fd, parent, flags, Mode::empty())
                .map_err(|e| refuse("cannot be opened").because(e))?;
        }
        Ok(images)
    }

    /// Opens the directories for a restore; that of the images must be there.
    ///
    /// # Errors
    /// Something in them is neither a plain file, nor a directory or a socket.
    pub(crate) fn for_restore(wishes: &Wishes) -> Result<Images, Error> {
        Images::open(wishes)
    }

    fn open(wishes: &Wishes) -> Result<Images, Error> {
        let images = Place::open(&wishes.images)?;
        check_images(images.fd.as_fd(), &images.path, 0)?;
        let work = match &wishes.work {
            None => None,
            Some(path) => {
                make(path)?;
                Some(Place::open(path)?)
            }
        };
        let images = Images { images, work };
        let work = images.work();
        for name in OWN_FILES {
            match fstatat(&work.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => {}
                Err(e) => return Err(Error::new(format!("stat {:?}", work.path.join(name))).because(e)),
                Ok(stat) if kind(stat.st_mode) == SFlag::S_IFREG => {}
                Ok(stat) => return Err(foreign(&work.path.join(name), stat.st_mode)),
            }
        }
        Ok(images)
    }

    fn work(&self) -> &Place {
        self.work.as_ref().unwrap_or(&self.images)
    }

    /// The descriptors' numbers, for a criu that runs in this process's mount namespace.
    pub(crate) fn places(&self) -> Places {
        let number = |place: &Place| place.fd.as_raw_fd();
        Places { images: number(&self.images), work: self.work.as_ref().map(number) }
    }

    /// The same directories opened once more, as process `pid` sees them: in a mount namespace of its own, criu can
    /// mount nothing below a directory of ours.
    ///
    /// # Errors
    /// It does not see them, or others in their place.
    pub(crate) fn seen_by(&self, pid: i32) -> Result<Images, Error> {
        let seen = |place: &Place| -> Result<Place, Error> {
            let fail =
                |e: Errno| Error::new(format!("open {:?} as process {pid} sees it", place.path)).because(e);
            let path = std::fs::read_link(format!("/proc/self/fd/{}", place.fd.as_raw_fd()))
                .map_err(|e| Error::new(format!("find {:?}", place.path)).because(e))?;
            let inside = path.strip_prefix("/").unwrap_or(&path);
            let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let fd =
                nix::fcntl::open(&Path::new(&format!("/proc/{pid}/root")).join(inside), flags, Mode::empty())
                    .map_err(fail)?;
            let (one, other) = (fstat(&place.fd).map_err(fail)?, fstat(&fd).map_err(fail)?);
            if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino) {
                return Err(fail(Errno::ESTALE));
            }
            Ok(Place { path: place.path.clone(), fd })
        };
        Ok(Images { images: seen(&self.images)?, work: self.work.as_ref().map(seen).transpose()? })
    }

    /// Stores what the standard streams of the init are.
    pub(crate) fn write_descriptors(&self, descriptors: &[OsString; 3]) -> Result<(), Error> {
        let path = self.images.path.join(DESCRIPTORS);
        let fail = |e: std::io::Error| Error::new(format!("write {path:?}")).because(e);
        let list = descriptors.each_ref().map(|d| d.to_string_lossy());
        let json = serde_json::to_vec(&list).map_err(|e| fail(e.into()))?;
        let temporary = format!(".{DESCRIPTORS}.{}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = &self.images.fd;
        let file = openat(dir, temporary.as_str(), flags, Mode::from_bits_truncate(0o600));
        let mut file: File = file.map_err(|e| fail(e.into()))?.into();
        let written =
            file.write_all(&json).and_then(|()| Ok(renameat(dir, temporary.as_str(), dir, DESCRIPTORS)?));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = unlinkat(dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written.map_err(fail)
    }

    /// Which of the standard streams were pipes to somebody outside: criu's name for the pipe, and the stream.
    pub(crate) fn pipes(&self) -> Result<Vec<(String, i32)>, Error> {
        let path = self.images.path.join(DESCRIPTORS);
        let fail = |e: std::io::Error| Error::new(format!("read {path:?}")).because(e);
        let json = read(self.images.fd.as_fd(), DESCRIPTORS, MAX_DESCRIPTORS).map_err(fail)?;
        let list: Vec<String> = serde_json::from_slice(&json)
            .map_err(|e| Error::new(format!("parse {path:?}")).kind(ErrorKind::Invalid).because(e))?;
        // Whatever else is in the list: there are three streams, and other descriptors are not the image's to name.
        let streams = list.into_iter().take(3).zip(0..);
        Ok(streams.filter(|(name, _)| is_pipe(name)).collect())
    }

    /// What is wrong, as criu's log has it, and where the log is.
    pub(crate) fn cause(&self, log: &str) -> (Option<String>, PathBuf) {
        let work = self.work();
        let cause = open_plain(work.fd.as_fd(), log).ok().and_then(|file| find_errors(file.take(MAX_LOG)));
        (cause, work.path.join(log))
    }
}

impl Place {
    fn open(path: &Path) -> Result<Place, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|e| Error::new(format!("open directory {path:?}")).because(e))?;
        Ok(Place { path: path.to_owned(), fd })
    }
}

/// A directory for what is memory of a container, and so nobody else's.
fn make(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Error::new(format!("make directory {path:?}")).because(e))
}

fn kind(mode: u32) -> SFlag {
    SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits())
}

/// The refusal of something that criu would open as if it were a file of its own.
fn foreign(path: &Path, mode: u32) -> Error {
    let what = match kind(mode) {
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        _ => "a device",
    };
    Error::new(format!("{path:?} is {what}, not a plain file: such images are not used"))
        .kind(ErrorKind::Invalid)
}

/// Refuses a directory with anything that criu could be led away by.
fn check_images(dir: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<(), Error> {
    let fail = |e: Errno| Error::new(format!("list {path:?}")).because(e);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(dir, ".", flags, Mode::empty()).map_err(fail)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        names.push(OsStr::from_bytes(entry.map_err(fail)?.file_name().to_bytes()).to_owned());
    }
    // The first one by name is named, whatever the order on disk.
    names.sort();
    for name in names.iter().filter(|name| *name != "." && *name != "..") {
        let mode = match fstatat(dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            other => other.map_err(fail)?.st_mode,
        };
        match kind(mode) {
            // criu goes into no directory but `parent`; a socket cannot be opened, and lazy-pages has one here.
            SFlag::S_IFREG | SFlag::S_IFSOCK => {}
            SFlag::S_IFLNK | SFlag::S_IFDIR if name == PARENT => check_parent(dir, path, depth)?,
            SFlag::S_IFDIR => {}
            _ => return Err(foreign(&path.join(name), mode)),
        }
    }
    Ok(())
}

/// The images of an earlier pre-dump, which criu reads too.
fn check_parent(dir: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<(), Error> {
    let link = path.join(PARENT);
    let refuse = |why: &str| Error::new(format!("{link:?} {why}")).kind(ErrorKind::Invalid);
    match readlinkat(dir, PARENT) {
        Ok(target) if Path::new(&target).is_absolute() => {
            return Err(refuse("leads to an absolute path: such images are not used"));
        }
        // EINVAL: a directory.
        Ok(_) | Err(Errno::EINVAL) => {}
        Err(e) => return Err(refuse("cannot be read").because(e)),
    }
    if depth >= MAX_PARENTS {
        return Err(refuse(&format!("is the end of a chain of more than {MAX_PARENTS} directories")));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent =
        openat(dir, PARENT, flags, Mode::empty()).map_err(|e| refuse("cannot be opened").because(e))?;
    check_images(parent.as_fd(), &link, depth + 1)
}

fn open_plain(dir: BorrowedFd<'_>, name: &str) -> std::io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    match kind(fstat(&fd)?.st_mode) {
        SFlag::S_IFREG => Ok(fd.into()),
        _ => Err(std::io::Error::other("not a plain file")),
    }
}

fn read(dir: BorrowedFd<'_>, name: &str, most: u64) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_plain(dir, name)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(std::io::Error::other(format!("longer than {most} bytes")));
    }
    Ok(content)
}

/// `pipe:[N]`, as the kernel names one.
pub(crate) fn is_pipe(name: &str) -> bool {
    let number = name.strip_prefix("pipe:[").and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The errors of a log of criu's that say most: the first, which is mostly the cause, and the last that is more than
/// "it failed".
pub(super) fn find_errors(log: impl Read) -> Option<String> {
    let mut lines = BufReader::new(log);
    let (mut first, mut last): (Option<String>, Option<String>) = (None, None);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        // "(00.012345)     12: Error (criu/mount.c:1000): mnt: ..."
        let text = String::from_utf8_lossy(&line);
        if let Some((_, error)) = text.split_once("Error (") {
            let error = error.split_once("): ").map_or(error, |(_, said)| said);
            // The container chose some of the words.
            let clean: String = error.trim().chars().filter(|c| !c.is_control()).take(MAX_QUOTE).collect();
            if !clean.ends_with("FAILED.") {
                let clean = clean.trim_end_matches('.').to_owned();
                if first.is_none() {
                    first = Some(clean);
                } else {
                    last = Some(clean);
                }
            }
        }
        line.clear();
    }
    match (first, last) {
        (Some(first), Some(last)) if first != last => Some(format!("{first}; then {last}")),
        (first, _) => first,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn wishes(dir: &Path) -> Wishes {
        Wishes { images: dir.join("images"), ..Wishes::default() }
    }

    #[test]
    fn streams_that_were_pipes_are_remembered_and_nothing_else_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let wishes = wishes(dir.path());
        let images = Images::for_dump(&wishes).unwrap();
        images.write_descriptors(&["pipe:[1]".into(), "/dev/null".into(), "pipe:[23]".into()]).unwrap();
        assert_eq!(images.pipes().unwrap(), [("pipe:[1]".to_owned(), 0), ("pipe:[23]".to_owned(), 2)]);
        let file = wishes.images.join(DESCRIPTORS);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), r#"["pipe:[1]","/dev/null","pipe:[23]"]"#);
        // criu's descriptor 3 is the socket that it is commanded by.
        std::fs::write(&file, r#"["","pipe:[x]","/a/pipe:[1]","pipe:[4]"]"#).unwrap();
        assert_eq!(images.pipes().unwrap(), []);
        for bad in ["", "{}", "[1]", "[\"pipe:[1]\""] {
            std::fs::write(&file, bad).unwrap();
            assert_eq!(images.pipes().unwrap_err().what(), ErrorKind::Invalid, "{bad}");
        }
        std::fs::write(&file, " ".repeat(70_000)).unwrap();
        assert!(format!("{:#}", images.pipes().unwrap_err()).contains("longer than 65536 bytes"));
        std::fs::remove_file(&file).unwrap();
        assert!(format!("{:#}", images.pipes().unwrap_err()).contains("no such file"));
        std::fs::create_dir(&file).unwrap();
        assert!(images.pipes().is_err());
    }

    #[test]
    fn hostile_images_are_refused_before_criu_sees_them() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        std::fs::write(&canary, "untouched").unwrap();
        let refused = |name: &str, word: &str| {
            let error = Images::for_restore(&wishes(dir.path())).unwrap_err();
            assert_eq!(error.what(), ErrorKind::Invalid, "{error:#}");
            assert!(error.to_string().contains(name) && error.to_string().contains(word), "{error:#}");
            assert!(Images::for_dump(&wishes(dir.path())).is_err());
        };
        let images = dir.path().join("images");
        for name in ["pages-1.img", DESCRIPTORS, DUMP_LOG, RESTORE_LOG, "stats-restore"] {
            std::fs::create_dir_all(&images).unwrap();
            symlink(&canary, images.join(name)).unwrap();
            refused(name, "a symbolic link");
            std::fs::remove_dir_all(&images).unwrap();
        }
        std::fs::create_dir_all(&images).unwrap();
        nix::unistd::mkfifo(&images.join("core-1.img"), Mode::S_IRUSR).unwrap();
        refused("core-1.img", "a FIFO");
        std::fs::remove_file(images.join("core-1.img")).unwrap();
        // Links to earlier images are criu's own, and are looked into.
        symlink("/", images.join(PARENT)).unwrap();
        refused("parent", "an absolute path");
        std::fs::remove_file(images.join(PARENT)).unwrap();
        symlink("../before", images.join(PARENT)).unwrap();
        refused("parent", "cannot be opened");
        let before = dir.path().join("before");
        std::fs::create_dir(&before).unwrap();
        std::fs::write(before.join("pages-1.img"), "").unwrap();
        Images::for_restore(&wishes(dir.path())).unwrap();
        symlink(&canary, before.join("pages-2.img")).unwrap();
        refused("parent/pages-2.img", "a symbolic link");
        std::fs::remove_dir_all(&before).unwrap();
        std::fs::create_dir(&before).unwrap();
        symlink("../before", before.join(PARENT)).unwrap();
        refused("parent", "a chain of more than");
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "untouched");
    }

    #[test]
    fn the_work_directory_is_looked_at_too() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        let wishes = Wishes { work: Some(work.clone()), ..wishes(dir.path()) };
        assert!(Images::for_restore(&wishes).is_err(), "there are no images");
        let images = Images::for_dump(&wishes).unwrap();
        assert_eq!(images.cause(DUMP_LOG), (None, work.join(DUMP_LOG)));
        assert!(images.places().work.is_some());
        symlink("/etc/passwd", work.join("unrelated")).unwrap();
        Images::for_dump(&wishes).unwrap();
        symlink("/etc/passwd", work.join(RESTORE_LOG)).unwrap();
        assert!(Images::for_restore(&wishes).unwrap_err().to_string().contains("a symbolic link"));
    }

    #[test]
    fn a_parent_is_a_directory_beside() {
        let dir = tempfile::tempdir().unwrap();
        let with = |parent: &str| Wishes { parent: Some(parent.into()), ..wishes(dir.path()) };
        for (parent, word) in [("/tmp", "relative"), ("../none", "cannot be opened")] {
            let error = Images::for_dump(&with(parent)).unwrap_err();
            assert!(
                error.to_string().contains("--parent-path") && error.to_string().contains(word),
                "{error}"
            );
        }
        std::fs::create_dir(dir.path().join("before")).unwrap();
        Images::for_dump(&with("../before")).unwrap();
    }

    #[test]
    fn the_first_error_is_the_cause() {
        let log = b"(00.000001) Version: 3.17.1\n\
            (00.000123)     12: Error (criu/files-reg.c:2143): File bin/sleep has bad size 5\x1b[2J\n\
            (00.000200) Error (criu/cr-restore.c:1480): 12 exited, status=1\n\
            (00.000300) Error (criu/cr-restore.c:2557): Restoring FAILED.\n";
        let wanted = "File bin/sleep has bad size 5[2J; then 12 exited, status=1";
        assert_eq!(find_errors(&log[..]).as_deref(), Some(wanted));
        assert_eq!(find_errors(&b"(00.1) Error (a.c:1): only\n"[..]).as_deref(), Some("only"));
        assert_eq!(find_errors(&b"(00.1) all is well\n"[..]), None);
        assert_eq!(find_errors(&b"\xff\xff"[..]), None);
    }

    #[test]
    fn pipes_are_named_by_the_kernel() {
        for (name, pipe) in
            [("pipe:[12]", true), ("pipe:[]", false), ("pipe:[1]x", false), ("socket:[1]", false)]
        {
            assert_eq!(is_pipe(name), pipe, "{name}");
        }
    }
}
