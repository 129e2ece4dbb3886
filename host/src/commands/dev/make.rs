//! What an app that is developed is made from: a project, which `wasmhost` builds, or a component's file, which something else
//! builds. Either is copied to the stage.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use wasmhost_base::file_watch::{self, Snapshot};
use wasmhost_config::{App, Development};
use wasmhost_sandbox::{self as sandbox, Content, LoadError};
use wasmhost_serve::development::write_whole;
use wasmhost_toolchain::build::{self, Options, Project, Says};

use super::error::DevError;

/// What is developed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Make {
    Project { folder: PathBuf, release: bool },
    File { file: PathBuf, root: PathBuf },
}

/// A new component.
pub(super) struct MadeComponent {
    /// Where it is: beside the one on the stage.
    pub(super) component: PathBuf,
    /// What came of it, in a few words.
    pub(super) said: String,
}

/// Why there is no new component.
pub(super) struct Trouble {
    pub(super) title: String,
    pub(super) text: String,
    pub(super) hint: String,
}

impl Trouble {
    pub(super) fn unservable(error: &LoadError) -> Self {
        Self {
            title: "The component cannot be served".to_owned(),
            text: error.reason.clone(),
            hint: error.hint.clone(),
        }
    }

    /// The loader's end is a bug, of which the log has told.
    pub(super) fn lost() -> Self {
        Self {
            title: "The component was not loaded".to_owned(),
            text: "the loader ended without a word".to_owned(),
            hint: "see the log lines above".to_owned(),
        }
    }

    fn of_build(error: &build::Error) -> Self {
        if let build::Error::Unservable(error) = error {
            return Self::unservable(error);
        }
        let said = error.output().trim_end();
        let text = if said.is_empty() { error.to_string() } else { format!("{said}\n\n{error}") };
        let hint = match error {
            build::Error::Missing { install, .. } => format!("it is installed by: {install}"),
            // What it said is in the text.
            build::Error::Failed { .. } => String::new(),
            error => error.hint(),
        };
        Self { title: "The build failed".to_owned(), text, hint }
    }

    pub(super) fn of_stage(error: &std::io::Error) -> Self {
        Self {
            title: "The component was not loaded".to_owned(),
            text: format!("it cannot be written to a temporary folder: {error}"),
            hint: "see that the disk has room".to_owned(),
        }
    }
}

impl Make {
    /// What a path names.
    pub(super) fn of(named: &Path, release: bool) -> Result<Self, DevError> {
        if named.is_dir() {
            let project = Project::find(named)?;
            return Ok(Self::Project { folder: project.folder().to_owned(), release });
        }
        if !named.is_file() {
            return Err(DevError::Nothing(named.to_owned()));
        }
        let system = |error| DevError::System { action: "find the current folder", error };
        let root = std::env::current_dir().map_err(system)?;
        Ok(Self::File { file: std::path::absolute(named).map_err(system)?, root })
    }

    /// What an app of a file is made from; `root` is the folder of the file. Whether that is there, building it says.
    pub(super) fn of_app(app: &App, root: &Path, release: bool) -> Self {
        if app.project.as_os_str().is_empty() {
            Self::File { file: app.component.clone(), root: root.to_owned() }
        } else {
            Self::Project { folder: app.project.clone(), release }
        }
    }

    /// The folder that files are named from.
    pub(super) fn root(&self) -> &Path {
        match self {
            Self::Project { folder, .. } => folder,
            Self::File { root, .. } => root,
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Self::Project { folder, .. } => folder.file_name().map_or_else(|| folder.clone(), PathBuf::from),
            Self::File { file, root } => file.strip_prefix(root).unwrap_or(file).to_owned(),
        }
    }

    /// The state of the files that it depends on. What the host writes in `data_dir` is none of them.
    pub(super) fn look(&self, data_dir: Option<&Path>) -> Snapshot {
        let data_dir = data_dir.and_then(|dir| dir.canonicalize().ok());
        let is_data_dir = |path: &Path| {
            let is_named =
                |dir: &PathBuf| dir.file_name() == path.file_name() && path.canonicalize().is_ok_and(|it| it == *dir);
            data_dir.as_ref().is_some_and(is_named)
        };
        match self {
            Self::File { file, .. } => file_watch::look(std::slice::from_ref(file), |_| false),
            Self::Project { folder, .. } => match Project::find(folder) {
                Ok(project) => file_watch::look(&project.watched(), |path| project.ignores(path) || is_data_dir(path)),
                // Until it is one again.
                Err(_) => file_watch::look(std::slice::from_ref(folder), |path| {
                    let below = path.strip_prefix(folder).unwrap_or(path);
                    below.components().count() > 1
                }),
            },
        }
    }

    /// Makes a new component of an app, in a file of this builder alone.
    pub(super) fn make(
        &self,
        (app, builder): (&str, u64),
        development: &Development,
    ) -> Result<MadeComponent, Trouble> {
        // Not into the project's folder, where a component for production may be.
        let output = development.folder(app).join(format!("built-{builder}.wasm"));
        match self {
            Self::Project { folder, release } => build_project(folder, *release, output),
            Self::File { file, .. } => take_file(file, output),
        }
    }
}

fn build_project(folder: &Path, release: bool, output: PathBuf) -> Result<MadeComponent, Trouble> {
    let built = Project::find(folder).and_then(|project| {
        project.build(&Options {
            output: Some(output),
            debug: !release,
            profile: false,
            install: true,
            says: Says::Kept,
        })
    });
    let built = built.map_err(|error| Trouble::of_build(&error))?;
    let (seconds, size) = (built.took.as_secs_f64(), ByteSize(built.bytes).display().si());
    Ok(MadeComponent { said: format!("built in {seconds:.1} s, {size}, wasi {}", built.wasi), component: built.path })
}

fn take_file(file: &Path, output: PathBuf) -> Result<MadeComponent, Trouble> {
    let unservable = |problem| Trouble::unservable(&LoadError::new(file, problem));
    let bytes = match sandbox::content(file).map_err(unservable)? {
        Content::Whole(bytes) => sandbox::with_lines(bytes, file),
        Content::Compiled(mut opened) => {
            let mut bytes = Vec::new();
            let read = opened.rewind().and_then(|()| opened.read_to_end(&mut bytes));
            read.map_err(|error| Trouble::of_stage(&error))?;
            bytes
        }
    };
    write_whole(&output, &bytes).map_err(|error| Trouble::of_stage(&error))?;
    Ok(MadeComponent { said: format!("loaded, {}", ByteSize(bytes.len() as u64).display().si()), component: output })
}
