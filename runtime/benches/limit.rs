//! An upload and a download over a link of 200 Mbit/s, limited to 60: by the open loop, by the
//! closed loop, and by tbf. `tests/bench` runs it, in network and mount namespaces of its own. It
//! prints a table; with `--json FILE` and `--svg FILE` it writes the measurements and draws them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LINK: f64 = 200.0;
const ASKED: f64 = 60.0;
/// A point of the curve, in seconds.
const STEP: f64 = 0.1;
/// When the limit begins, and when everything ends.
const BEGIN: f64 = 2.0;

/// One course: what was done, and Mbit/s in each step.
struct Course {
    name: &'static str,
    colour: &'static str,
    rates: Vec<f64>,
    repeated: u64,
}

impl Course {
    fn limited(&self) -> &[f64] {
        &self.rates[(BEGIN / STEP) as usize..]
    }

    fn mean(&self) -> f64 {
        let limited = self.limited();
        limited.iter().sum::<f64>() / limited.len() as f64
    }
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}");
    String::from_utf8(output.stdout).unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

impl Way {
    /// The value for `garth limit --direction`.
    fn name(self) -> &'static str {
        match self {
            Way::Up => "up",
            Way::Down => "down",
        }
    }
}

/// Payload bytes that the link has carried.
fn carried(way: Way) -> f64 {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("bench0:")).unwrap();
    let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let at = if way == Way::Up { 8 } else { 0 };
    numbers[at] - 66.0 * numbers[at + 1]
}

/// TCP segments retransmitted by the sender, which is here or in the neighbour's network.
fn repeated(way: Way, neighbour: u32) -> u64 {
    let sender = if way == Way::Up { std::process::id() } else { neighbour };
    let text = fs::read_to_string(format!("/proc/{sender}/net/snmp")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Tcp:")).collect();
    let at = lines[0].split(' ').position(|name| name == "RetransSegs").unwrap();
    lines[1].split(' ').nth(at).unwrap().parse().unwrap()
}

/// Sends to clients that say `d`, and receives from all others, one after the other.
fn serve() {
    let listener = TcpListener::bind("0.0.0.0:9000").unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut first = [0];
        if stream.read_exact(&mut first).is_ok() {
            transfer(&mut stream, first == *b"d");
        }
    }
}

fn transfer(stream: &mut TcpStream, send: bool) {
    let mut block = vec![0; 1 << 18];
    match send {
        true => while stream.write_all(&block).is_ok() {},
        false => while stream.read(&mut block).is_ok_and(|length| length > 0) {},
    }
}

fn connect(way: &str) {
    let mut stream = TcpStream::connect("192.0.2.2:9000").unwrap();
    stream.write_all(&way.as_bytes()[..1]).unwrap();
    transfer(&mut stream, way == Way::Up.name());
}

/// Ended when dropped.
struct Helper(Child);

impl Helper {
    fn start(program: impl AsRef<std::ffi::OsStr>, words: &[&str]) -> Helper {
        let mut command = Command::new(program);
        Helper(command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn course(
    (name, colour): (&'static str, &'static str),
    (way, neighbour): (Way, u32),
    limit: &[&str],
    seconds: f64,
) -> Course {
    let own = std::env::current_exe().unwrap();
    let client = Helper::start(own, &["--connect", way.name()]);
    let pid = client.0.id().to_string();
    std::thread::sleep(Duration::from_millis(500));
    let before = repeated(way, neighbour);
    let begin = Instant::now();
    let (mut rates, mut last, mut last_at) = (Vec::new(), carried(way), 0.0);
    let mut limiter = None;
    while rates.len() < (seconds / STEP) as usize {
        let due = begin + Duration::from_secs_f64((rates.len() + 1) as f64 * STEP);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (now, at) = (carried(way), begin.elapsed().as_secs_f64());
        rates.push((now - last) * 8.0 / (at - last_at) / 1e6);
        (last, last_at) = (now, at);
        if limiter.is_none() && at >= BEGIN {
            limiter = Some(match limit {
                ["tc", words @ ..] => Helper::start("tc", words),
                words => {
                    let words = [&["limit", "--pid", &pid], words].concat();
                    Helper::start(garth(), &words)
                }
            });
        }
    }
    // Not killed: the next course needs the link.
    if let Some(mut limiter) = limiter {
        sh(&format!("kill -INT {} 2>/dev/null || true", limiter.0.id()));
        let _ = limiter.0.wait();
    }
    Course { name, colour, rates, repeated: repeated(way, neighbour) - before }
}

fn garth() -> PathBuf {
    match std::env::var_os("GARTH") {
        Some(path) => path.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../target/x86_64-unknown-linux-gnu/release/garth"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    if has("--serve") {
        return serve();
    }
    if let Some(way) = after("--connect") {
        return connect(way);
    }
    assert!(garth().exists(), "{} is missing: cargo build --release", garth().display());
    let seconds = if has("--quick") || has("--test") { 4.0 } else { 12.0 };

    let neighbour = Helper::start("unshare", &["-n", "sleep", "1000"]);
    let pid = neighbour.0.id();
    std::thread::sleep(Duration::from_millis(300));
    let there = format!("nsenter --net=/proc/{pid}/ns/net");
    sh(&format!(
        "ip link add bench0 type veth peer name bench0 netns {pid}
        ip addr add 192.0.2.1/24 dev bench0; {there} ip addr add 192.0.2.2/24 dev bench0
        ip link set bench0 up; {there} ip link set bench0 up; {there} ip link set lo up
        tc qdisc add dev bench0 root tbf rate {LINK}mbit burst 256k latency 50ms
        {there} tc qdisc add dev bench0 root tbf rate {LINK}mbit burst 256k latency 50ms"
    ));
    // The kernel's own bound on a receive window until 6.16: data that a reader received before the
    // limit began is paid for first, and for 32 MB that would take all of the time there is.
    fs::write("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456").unwrap();
    let own = std::env::current_exe().unwrap();
    let net = format!("--net=/proc/{pid}/ns/net");
    let _server = Helper::start("nsenter", &[&net, own.to_str().unwrap(), "--serve"]);
    std::thread::sleep(Duration::from_millis(500));

    let duty = format!("{}%", 100.0 * ASKED / LINK);
    let rate = format!("{ASKED}Mbit/s");
    // Another bucket in place of the link's: a changed one may hold a train of segments larger than
    // its new burst, and would never send it.
    let shape = "qdisc replace dev bench0 root handle 2: tbf rate";
    let shape = format!("{shape} {rate} burst 64k latency 50ms");
    let shape: Vec<&str> = ["tc"].into_iter().chain(shape.split(' ')).collect();
    let shape: Vec<&str> = shape.iter().map(|word| word.trim_end_matches("/s")).collect();
    let limits = |way: Way| {
        let open = |name, colour, period| {
            let limit = ["--duty", &duty, "--period", period];
            course((name, colour), (way, pid), &limit, seconds)
        };
        vec![
            open("open loop, period 1 s", "#b8860b", "1s"),
            open("open loop, period 100 ms", "#c0392b", "100ms"),
            course(
                ("closed loop", "#1f6feb"),
                (way, pid),
                &["--rate", &rate, "--direction", way.name()],
                seconds,
            ),
        ]
    };
    let down = limits(Way::Down);
    let mut courses = limits(Way::Up);
    courses.push(course(("tbf", "#2e8b57"), (Way::Up, pid), &shape, seconds));
    for (what, courses) in [("Upload", &courses), ("Download", &down)] {
        println!("\n{what} over {LINK} Mbit/s, {ASKED} asked, {} s:\n", seconds - BEGIN);
        println!("| | Mbit/s | off by | sent again |\n|---|---|---|---|");
        for course in courses {
            let (mean, repeated) = (course.mean(), course.repeated);
            let off = (mean / ASKED - 1.0) * 100.0;
            println!("| {} | {mean:.1} | {off:+.1} % | {repeated} |", course.name);
        }
    }
    if let Some(file) = after("--json") {
        let course = |course: &Course| {
            let rates: Vec<f64> = course.rates.iter().map(|r| (r * 10.0).round() / 10.0).collect();
            serde_json::json!({"name": course.name, "mbit": rates, "repeated": course.repeated})
        };
        let all: Vec<_> = courses.iter().map(course).collect();
        let value = serde_json::json!({"link": LINK, "asked": ASKED, "step": STEP, "courses": all});
        fs::write(file, value.to_string() + "\n").unwrap();
    }
    if let Some(file) = after("--svg") {
        fs::write(file, draw(&courses, seconds)).unwrap();
    }
}

/// A panel for each course, one below the other, all to the same scale.
fn draw(courses: &[Course], seconds: f64) -> String {
    const WIDE: f64 = 760.0;
    const LEFT: f64 = 48.0;
    const PANEL: f64 = 112.0;
    const GAP: f64 = 34.0;
    let top = |index: usize| 30.0 + index as f64 * (PANEL + GAP);
    let high = top(courses.len()) + 16.0;
    let x = |second: f64| LEFT + second / seconds * (WIDE - LEFT - 16.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDE} {high:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDE}\" height=\"{high:.0}\" fill=\"#ffffff\"/>\n"
    );
    for (index, course) in courses.iter().enumerate() {
        let base = top(index) + PANEL;
        let y = |rate: f64| base - (rate / 240.0 * PANEL).min(PANEL);
        svg += &format!(
            "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"{}\" font-weight=\"bold\">{}: {:.1} Mbit/s of \
             {ASKED} asked</text>\n",
            top(index) - 6.0,
            course.colour,
            course.name,
            course.mean()
        );
        for mark in [0.0, 100.0, 200.0] {
            svg += &format!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{1:.0}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"#555555\">{mark}</text>\n",
                x(seconds),
                LEFT - 6.0,
                y(mark),
                y(mark) + 4.0
            );
        }
        svg += &format!(
            "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#333333\" \
             stroke-dasharray=\"5 4\"/>\n",
            x(BEGIN),
            x(seconds),
            y(ASKED)
        );
        let mut points = String::new();
        for (at, rate) in course.rates.iter().enumerate() {
            let (from, to) = (x(at as f64 * STEP), x((at + 1) as f64 * STEP));
            points += &format!("{from:.1},{0:.1} {to:.1},{0:.1} ", y(*rate));
        }
        svg += &format!(
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\" points=\"{}\"/>\n",
            course.colour,
            points.trim_end()
        );
    }
    let base = top(courses.len()) - GAP + 14.0;
    for second in (0..=seconds as u32).step_by(2) {
        let at = x(f64::from(second));
        svg += &format!(
            "<text x=\"{at:.1}\" y=\"{base:.1}\" text-anchor=\"middle\" fill=\"#555555\">{second} s</text>\n"
        );
    }
    svg + &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555555\">the limit begins at {BEGIN} s; Mbit/s in \
         steps of {STEP} s; the link carries {LINK}</text>\n</svg>\n",
        LEFT,
        base + 18.0
    )
}
