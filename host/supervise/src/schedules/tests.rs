use super::*;
use wasmhost_config::{CatchUp, Overlap, SCHEDULE_PATH};
use wasmhost_serve::worker::RunOutcome;

const APP: AppId = AppId(4);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// 2025-11-28 22:40:00 UTC.
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_369_600)
}

fn schedule(cron: &str, change: impl FnOnce(&mut ScheduleSettings)) -> ScheduleSettings {
    let mut schedule = ScheduleSettings {
        name: "job".to_owned(),
        cron: cron.to_owned(),
        timezone: "UTC".to_owned(),
        path: SCHEDULE_PATH.to_owned(),
        overlap: Overlap::Skip,
        catch_up: CatchUp::None,
        jitter: Duration::ZERO,
    };
    change(&mut schedule);
    schedule
}

/// A host whose clocks are set by hand, with one app.
struct Host {
    schedules: Schedules,
    now: Moment,
    is_ready: bool,
}

impl Host {
    fn with(schedule: ScheduleSettings) -> Self {
        let mut host = Self {
            schedules: Schedules::default(),
            now: Moment { wall: start(), steady: Instant::now() },
            is_ready: true,
        };
        host.follow(&[schedule], None);
        host
    }

    fn follow(&mut self, schedules: &[ScheduleSettings], dealt_with: Option<SystemTime>) {
        let app = App { name: "a".to_owned(), schedules: schedules.to_vec(), ..App::default() };
        self.schedules.follow([(APP, &app)].into_iter(), self.now, |_, _| dealt_with, || 0.5);
    }

    /// What is due, in short: `run MINUTES` after the start, or `left out COUNT`.
    fn looked_at(&mut self) -> Vec<String> {
        let steps = self.schedules.look(self.now, |_| self.is_ready, || 0.5);
        steps.into_iter().map(|step| shown(&step)).collect()
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now = Moment { wall: self.now.wall + time, steady: self.now.steady + time };
        self.looked_at()
    }

    /// The wall clock is another; the steady one has not moved (as after sleep).
    fn at(&mut self, wall: SystemTime) -> Vec<String> {
        self.now.wall = wall;
        self.looked_at()
    }

    fn ends(&mut self, outcome: RunOutcome) -> Option<String> {
        self.ends_when(outcome, true)
    }

    fn ends_when(&mut self, outcome: RunOutcome, may_begin: bool) -> Option<String> {
        let request = ScheduledRequest {
            app: APP,
            name: "job".to_owned(),
            cron: String::new(),
            path: String::new(),
            due: start(),
        };
        let end = RunEnd { outcome, status: Some(200), detail: None };
        self.schedules.ended(&request, end, MINUTE, may_begin).map(|step| shown(&step))
    }

    fn row(&self) -> ScheduleRow {
        self.schedules.rows(APP).remove(0)
    }
}

fn shown(step: &Step) -> String {
    match step {
        Step::Run(request) => {
            let late =
                request.due.duration_since(start()).map_or_else(|e| -e.duration().as_secs_f64(), |d| d.as_secs_f64());
            format!("run {}", late / 60.0)
        }
        Step::Load(_) => "load".to_owned(),
        Step::LeftOut { times, why, .. } => format!("left out {times} {}", why.name()),
    }
}

#[test]
fn a_schedule_is_due_once_at_each_of_its_times() {
    let mut host = Host::with(schedule("*/5 * * * *", |_| ()));
    assert_eq!(host.after(5 * MINUTE - Duration::from_millis(1)), [""; 0]);
    assert_eq!(host.after(Duration::from_millis(1)), ["run 5"]);
    assert_eq!(host.looked_at(), [""; 0], "once");
    host.ends(RunOutcome::Done);
    assert_eq!(host.after(5 * MINUTE), ["run 10"]);
    host.ends(RunOutcome::Fault);
    let row = host.row();
    assert_eq!((row.runs, row.faults, row.failures, row.left_out, row.running), (2, 1, 0, 0, 0));
    assert_eq!(row.last.map(|last| (last.took, last.end.outcome)), Some((MINUTE, RunOutcome::Fault)));
    assert_eq!(row.next, Some(start() + 15 * MINUTE));
}

#[test]
fn what_waits_when_no_run_may_begin_is_begun_later_or_caught_up_by_the_next_host() {
    let queue = |catch_up| {
        let mut host = Host::with(schedule("* * * * *", |schedule| {
            (schedule.overlap, schedule.catch_up) = (Overlap::Queue, catch_up);
        }));
        assert_eq!(host.after(MINUTE), ["run 1"]);
        assert_eq!(host.after(MINUTE), [""; 0]);
        assert_eq!(host.ends_when(RunOutcome::Done, false), None);
        host
    };
    // The host goes on all the same.
    let mut host = queue(CatchUp::None);
    assert_eq!(host.looked_at(), ["run 2"]);
    assert_eq!(host.ends(RunOutcome::Done), None);
    // It ends.
    let mut host = queue(CatchUp::None);
    let given_up: Vec<_> = host.schedules.give_up_waiting().iter().map(shown).collect();
    assert_eq!((given_up, host.row().left_out), (vec!["left out 1 the host stops".to_owned()], 1));
    let mut host = queue(CatchUp::Last);
    let seen = host.schedules.dealt_with().next().map(|(_, _, seen)| seen);
    assert_eq!(host.schedules.give_up_waiting(), []);
    let mut next = Host::with(schedule("* * * * *", |_| ()));
    (next.schedules, next.now) = (Schedules::default(), host.now);
    next.follow(&[schedule("* * * * *", |schedule| schedule.catch_up = CatchUp::Last)], seen);
    assert_eq!(next.looked_at(), ["run 2"]);
}

#[test]
fn it_is_looked_again_when_something_is_due_and_soon_in_any_case() {
    let host = Host::with(schedule("*/5 * * * *", |_| ()));
    assert_eq!(host.schedules.look_at(host.now), Some(host.now.steady + LOOK_EVERY), "the clock may be set");
    let near = Moment { wall: start() + 5 * MINUTE - Duration::from_secs(2), ..host.now };
    assert_eq!(host.schedules.look_at(near), Some(host.now.steady + Duration::from_secs(2)));
    let passed = Moment { wall: start() + 6 * MINUTE, ..host.now };
    assert_eq!(host.schedules.look_at(passed), Some(host.now.steady));
    assert_eq!(Schedules::default().look_at(host.now), None, "a host without schedules has no timer");
}

#[test]
fn what_overlaps_is_left_out_or_waits_or_runs_beside() {
    let mut host = Host::with(schedule("* * * * *", |_| ()));
    assert_eq!(host.after(MINUTE), ["run 1"]);
    assert_eq!(host.after(MINUTE), ["left out 1 overlap"]);
    assert_eq!(host.ends(RunOutcome::Done), None);
    assert_eq!(host.after(MINUTE), ["run 3"]);

    let mut host = Host::with(schedule("* * * * *", |schedule| schedule.overlap = Overlap::Queue));
    assert_eq!(host.after(MINUTE), ["run 1"]);
    assert_eq!(host.after(MINUTE), [""; 0]);
    assert_eq!(host.after(MINUTE), ["left out 1 overlap"]);
    assert_eq!(host.ends(RunOutcome::Done).as_deref(), Some("run 2"));
    assert_eq!(host.ends(RunOutcome::Done), None);

    let mut host = Host::with(schedule("* * * * *", |schedule| schedule.overlap = Overlap::Allow));
    for minute in 1..=Overlap::AT_ONCE_MAX {
        assert_eq!(host.after(MINUTE), [format!("run {minute}")]);
    }
    assert_eq!(host.after(MINUTE), ["left out 1 overlap"]);
    assert_eq!(host.row().running, Overlap::AT_ONCE_MAX);
}

#[test]
fn times_that_pass_while_the_host_is_busy_are_one_run() {
    let mut host = Host::with(schedule("* * * * * *", |_| ()));
    assert_eq!(host.after(Duration::from_secs(3)), ["left out 2 missed", "run 0.05"]);
}

#[test]
fn times_that_passed_in_sleep_are_left_out_or_the_last_is_run() {
    let asleep = start() + 8 * HOUR + 2 * MINUTE;
    for (cron, none, last) in [
        // The last of them was two minutes ago.
        ("*/5 * * * *", vec!["left out 96 missed"], vec!["left out 95 missed", "run 480"]),
        ("0 0 * * *", vec!["left out 1 missed"], vec!["run 80"]),
        // The last of them is now.
        ("* * * * *", vec!["left out 481 missed", "run 482"], vec!["left out 481 missed", "run 482"]),
    ] {
        let mut host = Host::with(schedule(cron, |_| ()));
        assert_eq!(host.at(asleep), none, "{cron}");
        assert_eq!(host.looked_at(), [""; 0]);
        let mut host = Host::with(schedule(cron, |schedule| schedule.catch_up = CatchUp::Last));
        assert_eq!(host.at(asleep), last, "{cron}");
        assert_eq!(host.looked_at(), [""; 0]);
    }
}

#[test]
fn a_clock_that_is_set_back_repeats_nothing_unless_it_was_wrong_by_much() {
    let mut host = Host::with(schedule("*/5 * * * *", |_| ()));
    assert_eq!(host.after(5 * MINUTE), ["run 5"]);
    host.ends(RunOutcome::Done);
    assert_eq!(host.at(start() + MINUTE), [""; 0]);
    assert_eq!(host.after(4 * MINUTE), [""; 0], "it was run");
    assert_eq!(host.after(5 * MINUTE), ["run 10"]);
    host.ends(RunOutcome::Done);
    // A day.
    assert_eq!(host.at(start() - 24 * HOUR), [""; 0]);
    assert_eq!(host.after(5 * MINUTE), ["run -1435"]);
}

#[test]
fn a_reload_keeps_what_runs_and_changes_the_rest() {
    let mut host = Host::with(schedule("*/5 * * * *", |_| ()));
    assert_eq!(host.after(5 * MINUTE), ["run 5"]);
    host.follow(&[schedule("*/2 * * * *", |_| ())], None);
    assert_eq!(host.row().running, 1);
    assert_eq!(host.after(MINUTE), ["left out 1 overlap"]);
    host.ends(RunOutcome::Done);
    assert_eq!(host.after(2 * MINUTE), ["run 8"]);
    // Gone, while it runs.
    host.follow(&[], None);
    assert!(host.schedules.is_running() && host.schedules.rows(APP).is_empty());
    assert_eq!(host.ends(RunOutcome::Done), None);
    assert!(!host.schedules.is_running() && host.schedules.look_at(host.now).is_none());
}

#[test]
fn what_was_missed_while_the_host_did_not_run_is_caught_up_once() {
    let catch_up = |schedule: &mut ScheduleSettings| schedule.catch_up = CatchUp::Last;
    let mut host =
        Host { schedules: Schedules::default(), now: Moment { wall: start(), steady: Instant::now() }, is_ready: true };
    host.follow(&[schedule("0 * * * *", catch_up)], Some(start() - 5 * HOUR));
    assert_eq!(host.looked_at(), ["left out 4 missed", "run -40"]);
    let dealt_with: Vec<_> = host.schedules.dealt_with().collect();
    assert_eq!(dealt_with, [(APP, "job", start())]);
    assert_eq!(host.looked_at(), [""; 0]);
    // Who does not catch up runs what was due just now, when another host began no run any more.
    let handed = |since| {
        let mut host = Host {
            schedules: Schedules::default(),
            now: Moment { wall: start() + Duration::from_secs(5), steady: Instant::now() },
            is_ready: true,
        };
        host.follow(&[schedule("*/20 * * * *", |_| ())], Some(since));
        assert_eq!(host.schedules.dealt_with().count(), 0);
        host.looked_at()
    };
    let moment = Duration::from_millis(1);
    assert_eq!(handed(start() - moment), ["run 0"]);
    assert_eq!(handed(start()), [""; 0], "that one has run it");
    assert_eq!(handed(start() - 20 * MINUTE - moment), ["left out 1 missed", "run 0"]);
}

#[test]
fn what_is_put_off_is_left_to_the_next_host() {
    let mut host = Host::with(schedule("*/10 * * * *", |schedule| schedule.jitter = 2 * MINUTE));
    let put_off = |host: &Host| host.schedules.put_off(host.now.wall).map(|(.., seen)| seen).collect::<Vec<_>>();
    assert_eq!((host.after(9 * MINUTE), put_off(&host)), (Vec::new(), Vec::new()));
    assert_eq!((host.after(MINUTE), put_off(&host)), (Vec::new(), vec![start()]), "by chance");
    assert_eq!((host.after(MINUTE), put_off(&host)), (vec!["run 10".to_owned()], Vec::new()));
    let mut host = Host::with(schedule("* * * * *", |schedule| schedule.overlap = Overlap::Queue));
    assert_eq!((host.after(MINUTE), put_off(&host)), (vec!["run 1".to_owned()], Vec::new()));
    assert_eq!((host.after(MINUTE), put_off(&host).len()), (Vec::new(), 1), "behind the one before");
}

#[test]
fn what_is_due_of_an_app_that_is_not_loaded_yet_waits_for_it() {
    let mut host = Host::with(schedule("*/5 * * * *", |_| ()));
    host.is_ready = false;
    assert_eq!(host.after(MINUTE), [""; 0], "nothing is due");
    assert_eq!(host.after(4 * MINUTE), ["load"]);
    assert_eq!(host.schedules.look_at(host.now), Some(host.now.steady + NOT_READY_AGAIN));
    assert_eq!(host.after(Duration::from_secs(3)), ["load"]);
    host.is_ready = true;
    assert_eq!(host.after(Duration::from_secs(1)), ["run 5"]);
    assert_eq!(host.schedules.look_at(host.now), Some(host.now.steady + LOOK_EVERY));
    host.ends(RunOutcome::Done);
    // However long that takes, unless the time had passed unseen before.
    for (unseen, expected) in [(Duration::ZERO, "run 10"), (MINUTE, "left out 1 missed")] {
        let mut host = Host::with(schedule("*/10 * * * *", |_| ()));
        host.is_ready = false;
        assert_eq!(host.after(10 * MINUTE + unseen), ["load"]);
        assert_eq!(host.after(2 * MINUTE), ["load"]);
        host.is_ready = true;
        assert_eq!(host.after(Duration::from_secs(1)), [expected]);
        assert_eq!(host.after(Duration::from_secs(1)), [""; 0]);
    }
}

#[test]
fn a_reload_drops_no_run_that_was_due_already() {
    // Put off by chance.
    let jitter = |schedule: &mut ScheduleSettings| schedule.jitter = 4 * MINUTE;
    let mut host = Host::with(schedule("*/10 * * * *", jitter));
    assert_eq!(host.after(11 * MINUTE), [""; 0]);
    host.follow(&[schedule("*/15 * * * *", jitter)], None);
    assert_eq!(host.after(MINUTE), ["run 10"]);
    host.ends(RunOutcome::Done);
    assert_eq!(host.after(10 * MINUTE), ["run 20"]);
    // In the queue, which there is no more.
    let queue = |schedule: &mut ScheduleSettings| schedule.overlap = Overlap::Queue;
    let mut host = Host::with(schedule("*/5 * * * *", queue));
    assert_eq!(host.after(5 * MINUTE), ["run 5"]);
    assert_eq!(host.after(5 * MINUTE), [""; 0]);
    host.follow(&[schedule("*/5 * * * *", |_| ())], None);
    assert_eq!(host.row().left_out, 1);
}

#[test]
fn a_schedule_is_run_by_hand_beside_its_times_unless_a_run_is_under_way() {
    let mut host = Host::with(schedule("*/5 * * * *", |_| ()));
    host.after(MINUTE);
    let run = |host: &mut Host, name: &str| host.schedules.run_now(APP, name, host.now).map(|request| request.due);
    assert_eq!(run(&mut host, "job"), Ok(start() + MINUTE));
    assert!(run(&mut host, "job").is_err_and(|reason| reason.contains("under way")));
    assert!(run(&mut host, "other").is_err_and(|reason| reason.contains("no schedule `other`")));
    assert_eq!(host.after(4 * MINUTE), ["left out 1 overlap"]);
    host.ends(RunOutcome::Done);
    assert_eq!(host.after(5 * MINUTE), ["run 10"]);
}

#[test]
fn chance_puts_a_run_off_and_not_behind_the_next_time() {
    let mut host = Host::with(schedule("*/5 * * * *", |schedule| schedule.jitter = 2 * MINUTE));
    assert_eq!(host.after(6 * MINUTE - Duration::from_secs(1)), [""; 0]);
    assert_eq!(host.after(Duration::from_secs(1)), ["run 5"]);
    let mut host = Host::with(schedule("* * * * *", |schedule| schedule.jitter = HOUR));
    assert_eq!(host.after(90 * Duration::from_secs(1)), ["run 1"]);
}

#[test]
fn the_host_makes_so_many_runs_at_once_and_no_more() {
    let mut schedules = Schedules::default();
    let now = Moment { wall: start(), steady: Instant::now() };
    let apps: Vec<App> = (0..4)
        .map(|_| App {
            schedules: (0..32).map(|n| schedule("* * * * *", |schedule| schedule.name = n.to_string())).collect(),
            ..App::default()
        })
        .collect();
    schedules.follow((0..).map(AppId).zip(&apps), now, |_, _| None, || 0.0);
    let steps = schedules.look(Moment { wall: start() + MINUTE, ..now }, |_| true, || 0.0);
    let runs = steps.iter().filter(|step| matches!(step, Step::Run(_))).count();
    let full = steps.iter().filter(|step| matches!(step, Step::LeftOut { why: LeftOut::Full, .. })).count();
    assert_eq!((runs, full), (RUNS_MAX, 4 * 32 - RUNS_MAX));
}
