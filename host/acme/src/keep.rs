//! Sees to it that there is a certificate for all names that are wanted, one order after another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmhost_base::panics::guarded;
use wasmhost_base::private_files;
use wasmhost_base::wire::Wire;
use wasmhost_config::tls::{FoundIdentity, identity, read_acme, seconds};
use wasmhost_config::{AcmeSettings, Config, acme};

use crate::client::AuthorityClient;
use crate::order::order;
use crate::outcome::OrderOutcome;
use crate::schedule::{HeldCertificate, Seconds, Tries, due};

/// The clock is looked at again after so long, since it may have been set.
const LOOK_EVERY: Duration = Duration::from_mins(10);

/// A certificate that is wanted.
struct WantedCertificate {
    settings: AcmeSettings,
    tries: Tries,
    /// By how much it is renewed earlier.
    drawn: f64,
}

/// Orders certificates as they are wanted, and tells the primary what came of it. Never ends, unless nothing is wanted.
pub(crate) async fn keep(config: &Config, line: &Wire) {
    let Some(data_dir) = config.data_dir.as_deref() else { return };
    let wanted = config.acme().into_iter().map(|settings| WantedCertificate {
        settings: settings.clone(),
        tries: Tries { begun: begun(&tries_file(settings, data_dir)), ..Tries::default() },
        drawn: fastrand::f64(),
    });
    let mut wanted: Vec<WantedCertificate> = wanted.collect();
    loop {
        let now = seconds(SystemTime::now());
        let next =
            wanted.iter_mut().map(|wanted| (due(now, wanted.held(data_dir), &wanted.tries, wanted.drawn), wanted));
        let Some((at, next)) = next.min_by_key(|(at, _)| *at) else { return std::future::pending().await };
        if at > now {
            let wait = Duration::from_secs(u64::try_from(at.saturating_sub(now)).unwrap_or(0));
            tokio::time::sleep(wait.min(LOOK_EVERY)).await;
            continue;
        }
        let outcome = next.get(now, data_dir).await;
        // The primary may be behind, or gone.
        let _ = line.try_send(&outcome, &[]);
    }
}

impl WantedCertificate {
    /// The certificate that is there.
    fn held(&self, data_dir: &Path) -> Option<HeldCertificate> {
        // One that cannot be used is replaced.
        let found = read_acme(&self.settings, data_dir).ok().flatten()?;
        let FoundIdentity { identity, not_before, not_after } = found;
        Some(HeldCertificate { not_before, not_after, has_names: has_names(&identity.names, &self.settings.domains) })
    }

    /// Orders one.
    async fn get(&mut self, now: Seconds, data_dir: &Path) -> OrderOutcome {
        self.tries.begin(now);
        let names = self.settings.domains.join(", ");
        let client = AuthorityClient::new(&self.settings.ca_pem);
        let gotten = match &client {
            Ok(client) => {
                let getting = get(&self.settings, &self.tries, data_dir, client.clone());
                guarded(Box::pin(getting)).await.unwrap_or_else(|panic| Err(format!("panicked: {panic}")))
            }
            Err(reason) => Err(reason.clone()),
        };
        match gotten {
            Ok(file) => {
                self.tries.issued();
                tracing::info!(names, file = %file.display(), "certificate issued");
                OrderOutcome::Issued
            }
            Err(reason) => {
                let retry_at = client.ok().and_then(|client| client.retry_at()).map(seconds);
                let wait = self.tries.failed(seconds(SystemTime::now()), retry_at, fastrand::f64());
                let (retry_s, authority) = (wait.as_secs(), &self.settings.directory);
                tracing::error!(names, authority, reason, retry_s, "certificate not issued");
                OrderOutcome::Failed
            }
        }
    }
}

/// Orders a certificate, and keeps it. Where it is kept.
async fn get(
    settings: &AcmeSettings,
    tries: &Tries,
    data_dir: &Path,
    client: AuthorityClient,
) -> Result<PathBuf, String> {
    let file = settings.file(data_dir);
    let kept = |file: &Path, bytes: &[u8]| {
        let written = private_files::write(file, bytes);
        written.map_err(|error: io::Error| format!("`{}` cannot be written: {error}", file.display()))
    };
    // Before anything is asked: a process that dies here again and again asks no more often for that.
    let begun = serde_json::to_vec(&tries.begun).map_err(|error| error.to_string())?;
    kept(&tries_file(settings, data_dir), &begun)?;
    let account = acme::account_file(data_dir);
    let account = fs::read_to_string(&account).map_err(|error| format!("`{}`: {error}", account.display()))?;
    let text = order(settings, &account, client).await?;
    let found = identity(text.clone(), text.clone(), &file, &file);
    let found = found.map_err(|reason| format!("what the authority gave cannot be used: {reason}"))?;
    if !has_names(&found.identity.names, &settings.domains) {
        return Err(format!("the authority gave a certificate for {:?} only", found.identity.names));
    }
    kept(&file, text.as_bytes())?;
    Ok(file)
}

fn has_names(names: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|name| names.contains(name)) && names.len() == wanted.len()
}

/// Where it is noted when orders of a certificate began.
fn tries_file(settings: &AcmeSettings, data_dir: &Path) -> PathBuf {
    settings.file(data_dir).with_extension("orders")
}

/// When orders began; nothing where that is not known.
fn begun(file: &Path) -> Vec<Seconds> {
    fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
