//! What answers and faults of instances mean for their pool: each fault is counted, logged and told, and decides with those before
//! it whether the pool goes on.

use std::rc::Rc;
use std::time::Instant;

use wasmhost_config::guarded_values;
use wasmhost_sandbox::{Fault, FaultKind, InstanceRecord, Recorded, TrapFrame, capabilities};

use super::common::PoolNotice;
use super::health::Verdict;
use super::instances::{InstanceOrigin, Pool};
use crate::development::trace_text;
use crate::fault_report::{FaultReport, Hiding, OfInstance};
use crate::instance_fault::InstanceFault;

impl Pool {
    /// The guest gave an answer.
    pub(super) fn answered(&self, origin: &InstanceOrigin) {
        if origin.is_outdated() {
            return;
        }
        let mut health = self.health.borrow_mut();
        if !health.has_answered() {
            self.has_answered.set(true);
        }
        if health.on_answer() {
            self.show_down(false);
            tracing::info!(worker = self.worker.0, app = &*self.name(), "the instance pool answers again");
        }
    }

    /// Whether one more fault of the app may be logged, of those that guests and clients can cause as often as they like.
    pub(crate) fn may_tell_fault(&self) -> bool {
        let (is_admitted, left_out) = self.fault_budgets.lines.admit();
        if left_out > 0 {
            let (worker, app) = (self.worker.0, &*self.name());
            tracing::warn!(worker, app, lines = left_out, "lines about faults were left out; each fault is counted");
        }
        is_admitted
    }

    /// Takes note of a fault: counts it, logs it, and decides whether the pool goes on.
    /// `record`: what is known of the instance's calls.
    pub(super) fn faulted(
        self: &Rc<Self>,
        origin: &InstanceOrigin,
        request: u64,
        fault: &Fault,
        record: Option<InstanceRecord>,
    ) {
        self.metrics.faulted(fault.kind);
        if fault.kind != FaultKind::Capacity {
            self.metrics.revisions().faulted(origin.revision);
        }
        if self.may_tell_fault() {
            let raise = fault.flag().map(|flag| format!("; raise {flag} to allow it")).unwrap_or_default();
            tracing::warn!(
                worker = self.worker.0,
                app = &*self.name(),
                generation = origin.generation,
                request,
                fault = fault.kind.name(),
                limit = fault.flag(),
                detail = &*fault.detail,
                trace = fault.trace.as_deref().map(trace_text),
                "recycle: a new instance takes its place{raise}"
            );
            self.tell_fault(origin, request, fault, record);
        }
        // Memory that others hold says nothing of the component.
        if origin.is_outdated() || fault.kind == FaultKind::Capacity || !self.common.may_go_down {
            return;
        }
        let answers_elsewhere = self.has_answered.get();
        let (now, tried) = (Instant::now(), origin.tried.get());
        let verdict = self.health.borrow_mut().on_fault(now, tried, answers_elsewhere, fastrand::f64());
        self.note(verdict, origin.revision);
    }

    /// Does what the health of the pool, after a failure of this revision, asks for.
    pub(super) fn note(self: &Rc<Self>, verdict: Verdict, revision: u64) {
        if let Verdict::DownFor(delay) = verdict
            && !self.retired.get()
            && !self.falls_back(revision)
        {
            self.show_down(true);
            tracing::error!(
                worker = self.worker.0,
                app = &*self.name(),
                retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "the instance pool is down after several faults in a row; requests get 503 until the next try"
            );
        }
    }

    /// Tells the primary of a fault, with a report for a crash bundle, if one is wanted and there were not many of late.
    pub(super) fn tell_fault(
        &self,
        origin: &InstanceOrigin,
        request: u64,
        fault: &Fault,
        record: Option<InstanceRecord>,
    ) {
        let Some(app) = self.id() else { return };
        let report = self.report(origin, fault, record).map(Box::new);
        let trace = fault.trace.as_deref().map(trace_text).or_else(|| stack_text(&fault.frames));
        let fault = InstanceFault::of(fault, trace.as_deref(), request, origin.revision);
        self.common.tell(PoolNotice::Fault(app, fault, report));
    }

    fn report(&self, origin: &InstanceOrigin, fault: &Fault, record: Option<InstanceRecord>) -> Option<FaultReport> {
        let settings = self.common.crashes.as_ref()?;
        if !self.fault_budgets.reports.admit().0 {
            return None;
        }
        // What it was given, which may be other secrets than those of now.
        let hiding = Hiding::new(settings, guarded_values(&origin.app, capabilities()));
        // Of one that a reload has replaced nobody knows it any more.
        let guest = self.guest.borrow().clone().filter(|_| !origin.is_outdated());
        let (served, cpu) = record.as_ref().map_or_else(Default::default, |record| (record.served(), record.cpu()));
        let recorded = match (record, &fault.recorded) {
            (Some(record), _) => record.recorded(),
            (None, Some(recorded)) => Recorded::clone(recorded),
            (None, None) => Recorded::default(),
        };
        let cpu_us = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
        let component_sha256 = guest.as_ref().map_or("", |guest| guest.component_sha256());
        let instance = OfInstance { component_sha256, cpu_us, served };
        Some(FaultReport::of(fault, &instance, &recorded, &hiding))
    }
}

/// A stack without its source, a line a frame; none: it is not known.
fn stack_text(frames: &[TrapFrame]) -> Option<String> {
    let line = |TrapFrame { function, offset, .. }: &TrapFrame| match offset {
        Some(offset) => format!("  at {function} (offset {offset:#x})\n"),
        None => format!("  at {function}\n"),
    };
    (!frames.is_empty()).then(|| frames.iter().map(line).collect())
}
