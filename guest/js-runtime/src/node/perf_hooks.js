// node:perf_hooks: what the web has of it.

export const { performance, PerformanceEntry, PerformanceMark, PerformanceMeasure, PerformanceObserver } = globalThis;

export default { performance, PerformanceEntry, PerformanceMark, PerformanceMeasure, PerformanceObserver };
