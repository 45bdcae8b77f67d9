//! Where a capture, a catalog or a site goes: a directory or an archive, written beside its
//! place and renamed, so that what has its name is whole. The same files give the same bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::CompressionLevel;

use super::Files;
use super::partial::Partial;
use crate::output::Failure;

#[derive(Clone, Copy)]
enum Form {
    Directory,
    File,
    Tar,
    TarGz,
    TarZst,
}

/// A name that nothing has yet.
pub(crate) struct Target {
    path: PathBuf,
    form: Form,
    partial: Partial,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let path = path.display().to_string();
    move |error| Failure::Other(format!("cannot write {path}: {error}"))
}

impl Target {
    /// Takes a directory, or an archive by the ending of its name. Fails if there is
    /// something of that name, or nowhere to put it.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().and_then(|name| name.to_str());
        let ends =
            |ends: &[&str]| name.is_some_and(|name| ends.iter().any(|end| name.ends_with(end)));
        Self::of_form(
            path,
            match () {
                () if ends(&[".tar"]) => Form::Tar,
                () if ends(&[".tar.gz", ".tgz"]) => Form::TarGz,
                () if ends(&[".tar.zst"]) => Form::TarZst,
                () => Form::Directory,
            },
        )
    }

    /// Takes a directory. Fails as [`new`](Self::new) does.
    pub(crate) fn directory(path: &Path) -> Result<Self, Failure> {
        Self::of_form(path, Form::Directory)
    }

    /// Takes a file. Fails as [`new`](Self::new) does.
    pub(crate) fn file(path: &Path) -> Result<Self, Failure> {
        Self::of_form(path, Form::File)
    }

    fn of_form(path: &Path, form: Form) -> Result<Self, Failure> {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name else {
            return Err(failed(path)(io::ErrorKind::InvalidInput.into()));
        };
        match path.symlink_metadata() {
            Ok(_) => {
                let why = "it exists already, and is not replaced";
                let why = io::Error::new(io::ErrorKind::AlreadyExists, why);
                return Err(failed(path)(why));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(path)(error)),
        }
        let partial = match form {
            Form::Directory => Partial::directory(path, name),
            _ => Partial::file(path, name),
        };
        Ok(Self {
            path: path.to_owned(),
            form,
            partial: partial.map_err(failed(path))?,
        })
    }

    /// Writes one file of a directory, which appears with the others by
    /// [`finish`](Self::finish).
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        put(self.partial.path(), path, bytes).map_err(failed(&self.path.join(path)))
    }

    /// Writes the file.
    pub(crate) fn write_file(
        self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let written = File::create(self.partial.path()).and_then(|file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()
        });
        written.map_err(failed(&self.path))?;
        self.finish()
    }

    pub(crate) fn write(self, files: &Files) -> Result<(), Failure> {
        if let Form::Directory = self.form {
            for (path, bytes) in files {
                self.put(path, bytes)?;
            }
        } else {
            let written = write_archive(self.partial.path(), self.form, files);
            written.map_err(failed(&self.path))?;
        }
        self.finish()
    }

    /// Gives all that was written its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let failed = failed(&self.path);
        self.partial.rename_to_new().map_err(failed)
    }
}

/// Writes a file, in place of one that may have its name.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = directory.join(name);
    let written = Partial::file(&path, name).and_then(|partial| {
        fs::write(partial.path(), bytes)?;
        partial.rename_over()
    });
    written.map_err(failed(&path))
}

/// Writes a file below a directory. The directory itself is not made again if it was
/// removed meanwhile: it would lack what was written before.
fn put(root: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        make_below(root, parent)?;
    }
    fs::write(&path, bytes)
}

/// Creates a directory below `root`, and those between.
fn make_below(root: &Path, directory: &Path) -> io::Result<()> {
    if directory == root {
        return Ok(());
    }
    match (fs::create_dir(directory), directory.parent()) {
        (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound && parent != root => {
            make_below(root, parent)?;
            fs::create_dir(directory)
        }
        (made, _) => made,
    }
}

fn write_archive(path: &Path, form: Form, files: &Files) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    match form {
        Form::TarGz => {
            let mut out = GzEncoder::new(&mut out, Compression::default());
            write_tar(&mut out, files)?;
            out.finish()?;
        }
        Form::TarZst => {
            let mut tar = Vec::new();
            write_tar(&mut tar, files)?;
            // Into memory: it panics where it cannot write.
            let packed = ruzstd::encoding::compress_to_vec(&*tar, CompressionLevel::Fastest);
            out.write_all(&packed)?;
        }
        Form::Tar | Form::Directory | Form::File => write_tar(&mut out, files)?,
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

/// Files alone, sorted, of nobody and of no time.
fn write_tar(out: impl Write, files: &Files) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, path, &**bytes)?;
    }
    archive.finish()
}
