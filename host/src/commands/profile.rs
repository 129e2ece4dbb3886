//! `wasmhost profile`: where the guests of a host that runs use CPU time, as folded stacks, as a flame graph, or for the Firefox
//! Profiler.

mod firefox;
mod flame_graph;
mod folded;
mod tree;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use wasmhost_config::cli::{ProfileArgs, ProfileFormat};
use wasmhost_supervise::control::client::ask;
use wasmhost_supervise::profile::HostProfile;

use super::hosts::{HostCommandError, RunningHost, chosen, is_name, refused};
use super::output::{Unwritten, write_to};
use super::plain::plain;

/// How long a host may take beyond the time of the profile: workers may be busy, and it adds up what they have counted.
const BEYOND: Duration = Duration::from_secs(30);

/// Makes a profile and writes it. `tell`: to standard error, what it is of.
///
/// # Errors
/// When there is no such host, it refuses or gives no answer, or the profile cannot be written.
pub(crate) fn run(args: &ProfileArgs, out: &mut dyn Write, tell: &dyn Fn(&str)) -> Result<(), HostCommandError> {
    let format = args.format.unwrap_or_else(|| format_of(args.output.as_deref()));
    if args.output.is_none() && format != ProfileFormat::Folded && std::io::stdout().is_terminal() {
        let reason = "this format is not for terminals; name a file with --output";
        return Err(HostCommandError::Usage(reason.to_owned()));
    }
    if let Some(app) = args.app.as_deref().filter(|app| app.is_empty() || !is_name(app)) {
        return Err(HostCommandError::Strange(format!("there is no app `{}`", plain(app))));
    }
    let RunningHost { host, .. } = chosen(args.host.as_deref())?;
    args.output.as_deref().map_or(Ok(()), look_at_folder)?;
    let app = args.app.as_ref().map(|app| format!("/apps/{app}")).unwrap_or_default();
    let worker = args.worker.map(|worker| format!("?worker={worker}")).unwrap_or_default();
    let path = format!("{app}/profile/{}{worker}", args.seconds);
    let answer = ask(&host, Method::POST, &path, Duration::from_secs(args.seconds.into()) + BEYOND)?;
    if answer.status != StatusCode::OK {
        return Err(refused(&answer));
    }
    let profile: HostProfile = serde_json::from_slice(&answer.body).map_err(|_| refused(&answer))?;
    let text = match format {
        ProfileFormat::Folded => folded::write(&profile),
        ProfileFormat::Svg => flame_graph::write(&profile, &host.name),
        ProfileFormat::Firefox => firefox::write(&profile, &host.name),
    };
    match &args.output {
        Some(file) => write_to(file, |to| {
            let written = to.write_all(text.as_bytes());
            written.map_err(|error| HostCommandError::from(Unwritten { file: file.clone(), error }))
        })?,
        None => match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // The reader has seen enough (`wasmhost profile | head`).
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(HostCommandError::Output(error)),
            Ok(()) | Err(_) => {}
        },
    }
    tell(&summary(&profile));
    Ok(())
}

/// What a file of this name has in it.
fn format_of(output: Option<&Path>) -> ProfileFormat {
    match output.and_then(Path::extension).and_then(|ending| ending.to_str()) {
        Some("svg") => ProfileFormat::Svg,
        Some("json") => ProfileFormat::Firefox,
        _ => ProfileFormat::Folded,
    }
}

/// Before somebody waits for a profile in vain: whether the folder of this file is there.
fn look_at_folder(file: &Path) -> Result<(), Unwritten> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::metadata(folder).map(drop).map_err(|error| Unwritten { file: file.to_owned(), error })
}

/// What the profile is of, in a line or more.
fn summary(profile: &HostProfile) -> String {
    let numbers = |workers: &[u16]| workers.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let seconds = |us: u64| us as f64 / 1e6;
    let mut text = format!(
        "{} samples of {:.1} s, {:.2} s of CPU time\n",
        profile.samples,
        profile.duration_ms as f64 / 1e3,
        seconds(profile.cpu_us)
    );
    for app in &profile.apps {
        let revisions: Vec<String> = app.revisions.iter().map(u64::to_string).collect();
        let of_revision =
            if revisions.is_empty() { String::new() } else { format!(" (revision {})", revisions.join(", ")) };
        let app_time = seconds(app.cpu_us);
        text.push_str(&format!("  {}{of_revision}: {} samples, {app_time:.2} s\n", plain(&app.app), app.samples));
    }
    if profile.samples == 0 {
        text.push_str("  no guest used CPU time meanwhile at a moment at which it was looked\n");
    }
    if !profile.lost.is_empty() {
        text.push_str(&format!("  without samples of workers that ended meanwhile: {}\n", numbers(&profile.lost)));
    }
    text
}

#[cfg(test)]
mod testing {
    use wasmhost_supervise::profile::{HostProfile, ProfiledApp, ProfiledStack};

    /// `a`: main calls f and `g<T>`; b: main.
    pub(super) fn profile() -> HostProfile {
        let app = |app: &str, cpu_us| ProfiledApp { app: app.to_owned(), revisions: vec![1], samples: 1, cpu_us };
        let stack = |app, frames: &[u32], cpu_us| ProfiledStack { app, frames: frames.to_vec(), samples: 1, cpu_us };
        HostProfile {
            duration_ms: 1_000,
            tick_us: 1_000,
            samples: 3,
            cpu_us: 10_000,
            workers: vec![1],
            apps: vec![app("a", 9_000), app("b", 1_000)],
            functions: ["m!main", "m!f;x", "m!g<T>&"].map(str::to_owned).to_vec(),
            stacks: vec![stack(0, &[0, 1], 6_000), stack(0, &[0, 2], 3_000), stack(1, &[0], 1_000)],
            ..HostProfile::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_the_file_says_the_format() {
        let of = |name: &str| format_of(Some(Path::new(name)));
        assert_eq!((of("a.svg"), of("a/b.json")), (ProfileFormat::Svg, ProfileFormat::Firefox));
        assert_eq!((of("a.txt"), format_of(None)), (ProfileFormat::Folded, ProfileFormat::Folded));
    }

    #[test]
    fn the_summary_says_of_what_the_profile_is_and_what_is_missing() {
        let mut profile = testing::profile();
        profile.lost = vec![2, 3];
        let expected = "3 samples of 1.0 s, 0.01 s of CPU time\n  a (revision 1): 1 samples, 0.01 s\n  b (revision 1): 1 samples, 0.00 s\n  without samples of workers that ended meanwhile: 2, 3\n";
        assert_eq!(summary(&profile), expected);
    }
}
