//! What does a developer of JavaScript see of errors, of the log and of time? `guest/javascript.sh` has installed the
//! packages, and has built the conformance application.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::dev::{get as get_in_development, is_page, page, until_served};
use crate::javascript::{FIRST_START_CEILING, line_of, serve};
use crate::support::{Connection, Finished, Server, TestResult, command, facility, get, message, run};

/// Whether a record is of a guest's line that has this text.
fn says(record: &Value, text: &str) -> bool {
    record["target"] == "guest" && message(record).contains(text)
}

fn wait_for_line(server: &Server, text: &str) -> Value {
    server.wait_for_record(text, |record| says(record, text))
}

#[test(needs(Javascript))]
fn console_output_keeps_its_level() {
    let server = serve("conformance.wasm", &[]);
    assert_eq!(get(server.address, "/levels").status, 200);
    wait_for_line(&server, "level trace");
    for (text, level) in [
        ("level debug { a: 1 }", "DEBUG"),
        ("level info", "INFO"),
        ("level log", "INFO"),
        ("level warn", "WARN"),
        ("level warn, continued", "WARN"),
        ("RangeError: level error", "ERROR"),
        ("level warn of a text ", "WARN"),
        (" level warn with marks", "WARN"),
    ] {
        let found = server.records(|record| says(record, text) && message(record) == text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0]["level"], level, "{text}");
    }
    let place = format!("src/index.js:{}", line_of("new RangeError('level error')"));
    assert_eq!(wait_for_line(&server, &place)["level"], "ERROR", "the lines of the stack");
    assert_eq!(wait_for_line(&server, "level of an object with marks")["level"], "WARN");
    // Standard output has no levels, so that a text that is printed there cannot choose one.
    assert_eq!(wait_for_line(&server, "level log of a text with a mark")["level"], "INFO");
    let place = format!("/levels@src/index.js:{}:13", line_of("console.trace('level trace')"));
    wait_for_line(&server, &place);
}

/// In production not each request is looked at, but each rejection is told of.
#[test(needs(Javascript))]
fn a_rejection_that_nobody_handles_is_logged_with_its_place() {
    // The only instance may be busy with what is left of the request before.
    let flags = ["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "30s"];
    let server = serve("conformance.wasm", &flags);
    let mut connection = Connection::open(server.address);
    assert_eq!(connection.get("/reject").text(), "rejected");
    for _ in 0..4 {
        let host = format!("Host: {}", server.address);
        connection.send(format!("GET /reject-nothing HTTP/1.1\r\n{host}\r\n\r\n"));
        assert_eq!(connection.response().text(), "left");
    }
    for _ in 0..40 {
        assert_eq!(connection.get("/json").status, 200);
    }
    let told = wait_for_line(&server, "Unhandled rejection: RangeError: rejected as asked");
    assert_eq!(told["level"], "ERROR");
    wait_for_line(&server, &format!("/reject@src/index.js:{}:20", line_of("new RangeError('rejected as asked')")));
    let others = server.records(|record| says(record, "Unhandled") && !says(record, "rejected as asked"));
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(server.records(|record| says(record, "rejected as asked")).len(), 1);
    assert_eq!(server.sum("generation"), 1, "no instance was lost");
}

#[test(needs(Javascript))]
fn in_production_no_client_is_told_of_an_error() {
    let server = serve("conformance.wasm", &[]);
    let thrown = get(server.address, "/throw");
    assert_eq!((thrown.status, thrown.text().as_str()), (500, "Internal Server Error\n"));
    assert!(!format!("{:?}", thrown.headers).contains("wasmhost"), "{:?}", thrown.headers);
    wait_for_line(&server, &format!("/throw@src/index.js:{}:11", line_of("new RangeError('thrown as asked'")));
}

const APPLICATION: &str = "import { fail } from 'mapped';

interface Order { id: number }

export default {
  async fetch(request: Request, env: unknown): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === '/throw') price({ id: 1 });
    if (pathname === '/package') fail(1);
    if (pathname === '/reject') void later();
    return new Response(JSON.stringify(env));
  },
};

async function later(): Promise<void> {
  await null;
  throw new RangeError('nobody waits for it');
}

function price(order: Order): number {
\tthrow new RangeError(`no <price> of ${order.id}`, { cause: new Error('the cause') });
}
";

/// Begins a project below the packages that the tests' guests have.
fn project(files: &[(&str, &str)]) -> Result<tempfile::TempDir, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(facility::javascript())?;
    for (file, text) in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().ok_or("a folder")?)?;
        fs::write(path, text)?;
    }
    Ok(dir)
}

#[test(needs(Javascript))]
fn while_developing_an_error_is_shown_with_the_lines_of_the_typescript_that_it_comes_from() -> TestResult {
    let package = r#"{"name": "mapped", "type": "module", "main": "index.js"}"#;
    let code =
        "export function fail(n) { throw new TypeError(`of a package: ${n}`); }\n//# sourceMappingURL=index.js.map\n";
    // All of the first line is of the third line of the source.
    let map = r#"{"version": 3, "sources": ["src/mapped.ts"], "names": [], "mappings": "AAEA"}"#;
    let dir = project(&[
        ("package.json", r#"{"name": "made", "main": "src/index.ts"}"#),
        ("src/index.ts", APPLICATION),
        ("node_modules/mapped/package.json", package),
        ("node_modules/mapped/index.js", code),
        ("node_modules/mapped/index.js.map", map),
    ])?;
    // Not within the project, which is built again when its files change.
    let stage = tempfile::tempdir()?;
    let mut command = command();
    command.env("TMPDIR", stage.path()).arg("dev").arg(dir.path());
    command.args(["--listen", "127.0.0.1:0", "--workers", "1", "--log-format", "json"]);
    let server = Server::spawn(command);
    until_served_in_time(&server);
    assert_eq!(
        get_in_development(server.address, "/").text(),
        "{}",
        "the variable of `wasmhost dev` is not the application's"
    );

    let line = line_in(APPLICATION, "throw new RangeError(`no <price>");
    let place = format!("src/index.ts:{line}:8");
    let shown = page(server.address, "/throw");
    is_page(
        &shown,
        500,
        &["RangeError: no &lt;price&gt; of 1\ncaused by: Error: the cause", "<code>price</code>", &place],
    );
    // The caret is below `new`, behind the tab.
    assert!(
        shown.text().contains("{ cause: new Error(&#39;the cause&#39;) });\n      | \t      ^</span>"),
        "{}",
        shown.text()
    );
    let told = get_in_development(server.address, "/throw");
    assert_eq!((told.status, told.header("content-type")), (500, Some("text/plain; charset=utf-8")));
    let frame = format!("  at price ({place})\n");
    assert!(
        told.text().contains(&frame) && told.text().contains(&format!("  > {line:>5} | \tthrow")),
        "{}",
        told.text()
    );
    assert!(told.header("wasmhost-error").is_none());

    let shown = page(server.address, "/package");
    let handler = format!("src/index.ts:{}:38", line_in(APPLICATION, "fail(1)"));
    is_page(
        &shown,
        500,
        &["TypeError: of a package: 1", "node_modules/mapped/src/mapped.ts:3:1", &handler, "fail(1);"],
    );

    assert_eq!(get_in_development(server.address, "/reject").status, 200);
    let rejected = wait_for_line(&server, "Unhandled rejection: RangeError: nobody waits for it");
    let place = format!("later@src/index.ts:{}:9", line_in(APPLICATION, "nobody waits"));
    let at = wait_for_line(&server, &place);
    assert_eq!((&rejected["level"], &rejected["request"]), (&Value::from("ERROR"), &at["request"]));
    Ok(())
}

/// The first build and the compilation of its component take long on a busy machine.
fn until_served_in_time(server: &Server) {
    let began = std::time::Instant::now();
    while began.elapsed() < FIRST_START_CEILING
        && server.records(|record| message(record).contains(crate::dev::SERVED)).is_empty()
    {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    until_served(server, 1);
}

fn line_in(text: &str, words: &str) -> usize {
    text.lines().position(|line| line.contains(words)).expect("a line") + 1
}

const MEASURED: &str = "function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
const pause = async (ms) => await new Promise((done) => setTimeout(done, ms));
const fails = async () => { await pause(1); throw new Error('as asked'); };
export default { async fetch() {
  fib(10);
  await pause(300);
  try { await fails(); } catch { fib(5); }
  return new Response('x');
} };
";

#[test(needs(Javascript))]
fn a_profile_tells_how_long_each_function_runs_and_leaves_out_what_it_waits() -> TestResult {
    let dir = project(&[("package.json", r#"{"name": "made", "main": "entry.js"}"#), ("entry.js", MEASURED)])?;
    let built = wasmhost(dir.path(), &["build", "--no-install", "--profile"]);
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let component = dir.path().join("made.wasm");
    let server = Server::start_within(FIRST_START_CEILING, component.to_str().ok_or("a path in UTF-8")?, &[]);
    assert_eq!(get(server.address, "/").status, 200);
    let head = wait_for_line(&server, "CPU profile: ");
    let row = |name: &str| -> Result<(f64, f64, u32), Box<dyn std::error::Error>> {
        let record = wait_for_line(&server, &format!("  {name}"));
        let numbers: Vec<&str> = message(&record).split_whitespace().take(3).collect();
        Ok((numbers[0].parse()?, numbers[1].parse()?, numbers[2].parse()?))
    };
    let (own, total, calls) = row("fib (entry.js:1:1)")?;
    // fib(10) makes 177 calls, fib(5) 15.
    assert_eq!(calls, 192);
    assert!(own > 0.0 && own <= total, "{own} {total}");
    let (own, total, calls) = row("fetch (entry.js:4:29)")?;
    assert_eq!(calls, 1);
    assert!(total >= own && total < 250.0, "without what it waits: {head}");
    assert_eq!((row("pause (entry.js:2:15)")?.2, row("fails (entry.js:3:15)")?.2), (2, 1));
    Ok(())
}

/// Runs `wasmhost` with these words in a folder.
fn wasmhost(folder: &Path, words: &[&str]) -> Finished {
    let mut command = command();
    command.current_dir(folder).args(words).env("TMPDIR", folder);
    run(command)
}

#[test(needs(Javascript))]
fn a_new_typescript_project_has_types_that_refuse_a_wrong_use() -> TestResult {
    let dir = tempfile::tempdir_in(facility::javascript())?;
    let made = wasmhost(dir.path(), &["new", "typed", "--lang", "ts"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let folder = dir.path().join("typed");
    let check = || -> Result<(bool, String), std::io::Error> {
        // npm finds the programs of packages that are installed above.
        let output = std::process::Command::new("npm").args(["run", "check"]).current_dir(&folder).output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let (passes, said) = check()?;
    assert!(passes, "{said}");
    let refuses = |source: &str, error: Option<&str>| -> TestResult {
        fs::write(folder.join("src/index.ts"), source)?;
        let (passes, said) = check()?;
        assert_eq!(passes, error.is_none(), "{source}: {said}");
        assert!(error.is_none_or(|error| said.contains(error)), "{source}: {said}");
        Ok(())
    };
    let handler = |body: &str| {
        format!("export default {{ async fetch(request, env, ctx) {{ {body} }} }} satisfies ExportedHandler<Env>;\n")
    };
    for (body, error) in [
        ("ctx.waitUntil(fetch('https://a.test')); return Response.json({ a: [...request.headers] });", None),
        ("return new Response(env.GREETING);", Some("Property 'GREETING' does not exist on type 'Env'")),
        ("ctx.waitUntill(fetch('https://a.test')); return new Response();", Some("Did you mean 'waitUntil'?")),
        ("return new Response('', { staus: 404 });", Some("Did you mean to write 'status'?")),
        ("return new Response(`${crypto.subtle.timingSafeEqual(new Uint8Array(1), new ArrayBuffer(1))}`);", None),
        ("return 'a string';", Some("is not assignable to type 'Promise<Response>'")),
        ("return (await caches.default.match(request)) ?? new Response();", None),
    ] {
        refuses(&handler(body), error)?;
    }
    // Bindings, and an application as it is written for Workers.
    let bound = |body: &str| {
        format!(
            "interface Bound {{ KV: KVNamespace; OTHER: Fetcher }}\nexport default {{ async scheduled(run, env, ctx) {{ {body} }} }} satisfies ExportedHandler<Bound>;\n"
        )
    };
    for (body, error) in [
        (
            "const n: number = (await env.KV.get<{ n: number }>(run.cron, 'json'))!.n; await env.KV.put('a', `${n}`, { expirationTtl: 60 });",
            None,
        ),
        (
            "for (const key of (await env.KV.list<string>()).keys) ctx.waitUntil(env.KV.delete(key.name + key.metadata?.length));",
            None,
        ),
        ("await env.OTHER.fetch('http://any/', { method: 'POST' });", None),
        ("await env.KV.get('a', 'xml');", Some("No overload matches this call")),
        ("await env.KV.put('a', 'b', { ttl: 60 });", Some("'ttl' does not exist in type 'KVNamespacePutOptions'")),
        ("await env.KV.put('a', { b: 1 });", Some("'b' does not exist in type")),
        ("return run.scheduled;", Some("Property 'scheduled' does not exist on type 'ScheduledController'")),
    ] {
        refuses(&bound(body), error)?;
    }
    refuses(include_str!("../guest/javascript/links/src/index.ts"), None)?;
    // With `@types/node` beside the web's types, which stay as they are.
    let settings = folder.join("tsconfig.json");
    fs::write(&settings, fs::read_to_string(&settings)?.replace("\"types\": []", "\"types\": [\"node\"]"))?;
    let imported = "import { createHash } from 'node:crypto';\n";
    for (body, error) in [
        ("return new Response(createHash('sha256').update(await request.text()).digest('hex'));", None),
        ("return new Response(createHash('sha256'));", Some("'Hash' is not assignable to parameter")),
        ("return new Response('', { staus: 404 });", Some("Did you mean to write 'status'?")),
    ] {
        refuses(&format!("{imported}{}", handler(body)), error)?;
    }
    Ok(())
}
