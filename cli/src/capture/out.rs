//! Where a capture or a site goes: a directory or an archive, written beside its place and renamed, so
//! that what has its name is whole. The same files give the same bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::CompressionLevel;

use super::Files;
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
    /// Beside it, until it is whole.
    partial: Partial,
}

/// Removed when this is dropped, unless it was renamed.
struct Partial {
    path: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is one of both, or not there.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir_all(&self.path);
    }
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
            Ok(_) => return Err(failed(path)(io::ErrorKind::AlreadyExists.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(path)(error)),
        }
        let partial = Partial {
            path: path.with_file_name(format!(".{name}.{}.partial", std::process::id())),
        };
        let made = match form {
            Form::Directory => fs::create_dir(&partial.path),
            _ => File::create_new(&partial.path).map(drop),
        };
        made.map_err(failed(path))?;
        Ok(Self {
            path: path.to_owned(),
            form,
            partial,
        })
    }

    /// Writes one file of a directory, which appears with the others by
    /// [`finish`](Self::finish).
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) -> Result<(), Failure> {
        let file = self.partial.path.join(path);
        let parent = file.parent().unwrap_or(&self.partial.path);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&file, bytes));
        written.map_err(failed(&self.path.join(path)))
    }

    /// Writes the file.
    pub(crate) fn write_file(
        self,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let written = File::create(&self.partial.path).and_then(|file| {
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()
        });
        written.map_err(failed(&self.path))?;
        self.finish()
    }

    pub(crate) fn write(self, files: &Files) -> Result<(), Failure> {
        let failed = failed(&self.path);
        let partial = &self.partial.path;
        match self.form {
            Form::Directory => write_directory(partial, files).map_err(&failed)?,
            form => write_archive(partial, form, files).map_err(&failed)?,
        }
        self.finish()
    }

    /// Gives all that was written its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let failed = failed(&self.path);
        if self.path.symlink_metadata().is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        fs::rename(&self.partial.path, &self.path).map_err(failed)
    }
}

fn write_directory(root: &Path, files: &Files) -> io::Result<()> {
    let mut last = None;
    for (path, bytes) in files {
        let path = root.join(path);
        let directory = path.parent().map(Path::to_owned);
        if directory != last {
            fs::create_dir_all(directory.as_deref().unwrap_or(root))?;
            last = directory;
        }
        fs::write(&path, bytes)?;
    }
    Ok(())
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
            ruzstd::encoding::compress(&*tar, &mut out, CompressionLevel::Fastest);
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
