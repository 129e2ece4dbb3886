//! Loads an app in a process of its own, so that the primary never maps guest code.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use wasmhost_base::wire::{Descriptor, Descriptors};
use wasmhost_config::{App, AppId, Config};
use wasmhost_confine::spawner::Spawner;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::vitals::{self, HostVitals, Vitals};

use super::handle::{GONE_WITHIN, end_of, spawn};
use super::protocol::{FromWorker, ToWorker};
use super::table;
use crate::backend::{Backend, Loaded, Pending};
use crate::loader::CodeAtRest;

/// What loading may take beyond compiling and the trial.
const LOADING_BEYOND: Duration = Duration::from_secs(30);

/// Where loading processes show themselves, and the files of that: those that none uses now. They live as long as the host,
/// and are no more than loads have run at once.
pub(super) type Desks = Rc<RefCell<Vec<(&'static Vitals, OwnedFd)>>>;

/// Begins. Needs the primary's local runtime.
///
/// # Errors
/// When the system has no process, memory or sockets to give.
pub(super) fn begin<B: Backend<Code = CodeAtRest, Guest = CodeAtRest>>(
    config: &Config,
    app: &Arc<App>,
    spawner: &Spawner,
    (host, host_file): (&'static HostVitals, &OwnedFd),
    (desks, missing): (&Desks, &[String]),
) -> io::Result<Pending<Loaded<B>>> {
    let free = desks.borrow_mut().pop();
    let (own, own_file) = free.map_or_else(vitals::shared, Ok)?;
    let start = || {
        let only = table::write([(AppId::default(), app)].into_iter())?;
        let (child, wire) = spawn(spawner, app.group.as_deref())?;
        let files = [
            (Descriptor::Table, only.as_fd()),
            (Descriptor::Vitals, own_file.as_fd()),
            (Descriptor::HostVitals, host_file.as_fd()),
        ];
        wire.try_send(&ToWorker::Load { missing: missing.to_vec() }, &files)?;
        Ok((child, wire))
    };
    let started: io::Result<_> = start();
    let (child, wire) = match started {
        Ok(started) => started,
        Err(error) => {
            desks.borrow_mut().push((own, own_file));
            return Err(error);
        }
    };
    let limit = [config.compilation.timeout, app.limits.start_timeout(), LOADING_BEYOND].into_iter().sum();
    let desks = Rc::clone(desks);
    let (answer, loaded) = oneshot::channel();
    let (name, component) = (app.name.clone(), app.component.display().to_string());
    tokio::task::spawn_local(async move {
        let last_word = OnceCell::new();
        let hearing = async {
            while let Ok(Some((word, descriptors))) = wire.receive::<FromWorker>().await {
                // There is but one.
                let _ = last_word.set((word, descriptors));
            }
        };
        if tokio::time::timeout(limit, hearing).await.is_err() {
            tracing::error!(app = name, "the process that loads the component does not end in time; it is killed");
            child.kill();
        }
        let ended = end_of(child, GONE_WITHIN).await;
        vitals::give_back(host, own, std::iter::empty());
        own.pulse.reset();
        desks.borrow_mut().push((own, own_file));
        let failed = |reason: String, hint: String| Err(LoadError { file: component, reason, hint });
        let outcome = match last_word.into_inner() {
            Some((FromWorker::Loaded { tried, stored }, descriptors)) => match code(stored, descriptors) {
                Ok(code) => {
                    let guest = code.clone();
                    Ok(Loaded { wasi: tried.wasi, isolation: tried.isolation, code, guest })
                }
                Err(error) => failed(
                    format!("its compiled code did not arrive: {error}"),
                    "this is a bug of wasmhost: report it".to_owned(),
                ),
            },
            Some((FromWorker::Failed { reason, hint }, _)) => failed(reason, hint),
            Some(_) | None => failed(
                format!("the process that loads it ended without a result ({ended})"),
                "see the log lines above; if memory is short, free some".to_owned(),
            ),
        };
        // Without a receiver the host is stopping, and nobody wants the app.
        let _ = answer.send(outcome);
    });
    Ok(loaded)
}

fn code(stored: Option<wasmhost_sandbox::StoredCode>, mut descriptors: Descriptors) -> io::Result<CodeAtRest> {
    Ok(match stored {
        Some(stored) => CodeAtRest::Stored(stored),
        None => CodeAtRest::Held(Arc::new(descriptors.take(Descriptor::Code)?)),
    })
}
