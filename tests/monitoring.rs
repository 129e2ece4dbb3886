//! Do the alerts and the dashboard of `contrib` fit the metrics? Debian's Prometheus scrapes a host.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::collector::Collector;
use crate::support::{Server, TestResult, eventually, free_address, get};

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name)
}

fn promtool(arguments: &[&str]) -> TestResult {
    let output = Command::new("promtool").args(arguments).current_dir(contrib("prometheus")).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    Ok(())
}

/// A Prometheus on loopback; killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes a host each second, with the configuration and the rules of `contrib`.
    fn start(admin: SocketAddr) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let configuration = std::fs::read_to_string(contrib("prometheus/prometheus.yml"))?;
        let rules = contrib("prometheus/wasmhost.rules.yml");
        let configuration = configuration
            .replace("127.0.0.1:9090", &admin.to_string())
            .replace("scrape_interval: 15s", "scrape_interval: 1s")
            .replace("wasmhost.rules.yml", rules.to_str().ok_or("a path in UTF-8")?);
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, configuration)?;
        let address = free_address();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let prometheus = Self { child, address, _folder: folder };
        eventually("Prometheus listens", || TcpStream::connect(address).is_ok());
        Ok(prometheus)
    }

    /// What an expression gives now; an error says why it is none.
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.address, &format!("/api/v1/query?query={encoded}"));
        let answer: Value =
            serde_json::from_str(&answer.text()).map_err(|error| format!("{error}: {}", answer.text()))?;
        match answer["data"]["result"].as_array() {
            Some(result) => Ok(result.clone()),
            None => Err(answer.to_string()),
        }
    }
}

impl Prometheus {
    /// The traces of requests that it has of a metric.
    fn traces(&self, metric: &str) -> String {
        let path = format!("/api/v1/query_exemplars?query={metric}&start=0&end=99999999999");
        get(self.address, &path).text()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The expressions of the dashboard, as Grafana sends them with everything chosen.
fn dashboard() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(contrib("grafana/wasmhost.json"))?)?;
    let panels = dashboard["panels"].as_array().ok_or("panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.filter_map(|target| target["expr"].as_str());
    let sent = |text: &str| text.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$app", ".*");
    Ok(expressions.map(sent).collect())
}

/// The metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("wasmhost_")).map(str::to_owned).collect()
}

#[test(needs(Prometheus))]
fn alerts_are_valid_and_fire_when_they_should_and_not_else() -> TestResult {
    promtool(&["check", "rules", "wasmhost.rules.yml"])?;
    promtool(&["check", "config", "prometheus.yml"])?;
    promtool(&["test", "rules", "wasmhost.tests.yml"])
}

#[test(needs(Prometheus))]
fn prometheus_counts_what_was_asked_and_every_expression_of_alerts_and_dashboard_is_of_metrics_that_there_are()
-> TestResult {
    let server = Server::start("faults.wasm", &[]);
    for _ in 0..30 {
        assert_eq!(get(server.address, "/hello").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(get(server.address, "/trap").status, 500);
    }
    let prometheus = Prometheus::start(server.admin_address())?;
    let number = |expression: &str| -> Option<f64> {
        prometheus.query(expression).ok()?.first()?["value"][1].as_str()?.parse().ok()
    };
    eventually("a scrape", || number("up{job=\"wasmhost\"}") == Some(1.0));
    for (expression, expected) in [
        ("sum(wasmhost_app_responses_total{class=\"2xx\"})", 30.0),
        ("sum(wasmhost_responses_total{class=\"5xx\"})", 3.0),
        ("sum(wasmhost_app_faults_total{fault=\"trap\"})", 3.0),
        ("sum(wasmhost_app_request_duration_seconds_count)", 33.0),
        ("count(wasmhost_worker_up == 1)", 2.0),
    ] {
        eventually(expression, || number(expression) == Some(expected));
    }
    let rules = std::fs::read_to_string(contrib("prometheus/wasmhost.rules.yml"))?;
    let expressions = dashboard()?;
    assert!(expressions.len() > 25, "{}", expressions.len());
    for expression in &expressions {
        prometheus.query(expression).map_err(|error| format!("{expression}: {error}"))?;
    }
    let page = metrics_in(&server.admin("/metrics").text());
    let named = metrics_in(&(expressions.join(" ") + &rules));
    // Of a host without schedules the page has their metrics without values: the name of a counter stands there without its end.
    let is_there = |name: &str| page.contains(name) || page.contains(name.trim_end_matches("_total"));
    let unknown: Vec<_> = named.iter().filter(|name| !is_there(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}

#[test(needs(Prometheus))]
fn prometheus_takes_the_traces_of_requests_with_the_metrics() -> TestResult {
    let collector = Collector::start();
    let server = Server::start("faults.wasm", &["--otlp", &collector.url(), "--trace-sample", "100%"]);
    assert_eq!(get(server.address, "/hello").status, 200);
    let trace = collector.server_span("faults", "/hello").trace();
    let page = server.admin("/metrics").text();
    let of_requests = page.lines().filter(|line| line.contains(" # {trace_id="));
    let of_requests: Vec<_> = of_requests.collect();
    let [line] = &*of_requests else { panic!("{of_requests:?}") };
    assert!(line.starts_with("wasmhost_app_request_duration_seconds_bucket{"), "{line}");
    assert!(line.contains(&format!("}} 1 # {{trace_id=\"{trace}\"}} 0.0")), "{line}");
    assert!(page.ends_with("# EOF\n"));
    let prometheus = Prometheus::start(server.admin_address())?;
    eventually("Prometheus has it", || {
        prometheus.traces("wasmhost_app_request_duration_seconds_bucket").contains(&trace)
    });
    Ok(())
}
