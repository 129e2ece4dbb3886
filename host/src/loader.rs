//! Loads a component in a thread of its own, at the host's start and at each reload: reading and compiling block, and
//! the trial of whether an instance comes up runs guest code, which the primary's thread never does.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::Config;
use crate::sandbox::{Guest, InstanceContext, LoadError, MemoryBudget, Ticker};

/// Begins to load what `config` names. The answer says whether an instance of it came up, too.
///
/// # Errors
/// When the system has no thread to give.
pub fn load(
    config: &Arc<Config>,
    ticker: &Arc<Ticker>,
    budget: &Arc<MemoryBudget>,
) -> std::io::Result<oneshot::Receiver<Result<Arc<Guest>, LoadError>>> {
    let (answer, loaded) = oneshot::channel();
    let (config, ticker, budget) = (Arc::clone(config), Arc::clone(ticker), Arc::clone(budget));
    std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
        // Without a receiver the host is stopping, and nobody wants the guest.
        let _ = answer.send(load_and_try(&config, &ticker, budget));
    })?;
    Ok(loaded)
}

fn load_and_try(config: &Config, ticker: &Arc<Ticker>, budget: Arc<MemoryBudget>) -> Result<Arc<Guest>, LoadError> {
    let guest = Guest::load(config, ticker)?;
    let failed = |reason: String, hint: &str| LoadError {
        file: config.component.display().to_string(),
        reason,
        hint: hint.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    let runtime = runtime
        .map_err(|error| failed(format!("no event loop to try it in: {error}"), "free descriptors or memory"))?;
    let context =
        InstanceContext::new(0, ticker.new_pulse(), Arc::clone(ticker), budget, Arc::new(config.grants.clone()));
    let limit = config.limits.request_timeout.unwrap_or(std::time::Duration::MAX);
    let tried = runtime.block_on(async { tokio::time::timeout(limit, guest.instantiate(&context)).await });
    runtime.shutdown_background();
    match tried {
        Ok(Ok(_instance)) => Ok(Arc::new(guest)),
        Ok(Err(fault)) => {
            let hint = match fault.kind.flag() {
                Some(flag) => format!("raise {flag}"),
                None if fault.detail.contains("--memory-max") || fault.detail.contains("memory minimum size") => {
                    "raise --memory-max".to_owned()
                }
                None => "its start functions failed; what it needs may have to be granted with --env, --arg or --dir"
                    .to_owned(),
            };
            Err(failed(format!("it does not start: {} ({})", fault.detail, fault.kind), &hint))
        }
        Err(_) => Err(failed(
            format!("it did not start within {} (--request-timeout)", humantime::format_duration(limit)),
            "raise --request-timeout",
        )),
    }
}
