//! A transfer through each way into a sandbox, and the account of every layer for it, side by side.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::boxed::{Boxed, free_port, output, sbin};
use super::{BenchReport, BenchRow, BenchTable, Contender, Effort, Spread, Tell, interleaved};
use crate::error::{Error, Result};
use crate::facts;
use crate::journal::Journal;
use crate::measure::layer::{Layer, Segment};
use crate::network::counters;
use crate::sys::{program, sockopt};

/// Where the receiver listens in the sandbox.
const PORT: u16 = 5000;

const COLUMNS: [&str; 3] = ["Mbit/s", "bytes", "% of the wire"];

/// What iftop divides by and calls a million.
const BINARY_MILLION: f64 = 1_048_576.0;

/// Receives at a port until it is killed: each connection to its end, for which it answers with the number of bytes.
///
/// # Errors
/// The port is taken.
pub fn sink(port: u16) -> Result<()> {
    let failed = |error: std::io::Error| Error::io(format!("listen at port {port}"), &error);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(failed)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        // A client that gives up is no reason to end.
        let Ok((mut client, _)) = listener.accept() else { continue };
        let mut sum = 0u64;
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            sum += count as u64;
        }
        let _ = client.write_all(&sum.to_be_bytes());
    }
}

/// What one transfer was.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    seconds: f64,
    bytes: u64,
    segments: u64,
    timestamps: bool,
    /// Frames that the link has moved towards the receiver meanwhile, and their bytes.
    frames: Option<(u64, u64)>,
}

/// Measures all ways that there are here. `garth` is the program.
///
/// # Errors
/// A sandbox with a network does not start.
pub fn link(
    garth: &Path,
    journal: &Journal,
    effort: Effort,
    tell: Tell<'_>,
) -> Result<BenchReport> {
    let bytes: u64 = if effort.quick { 8 << 20 } else { 512 << 20 };
    let rounds = effort.rounds(10)?;
    let mut notes = vec![
        format!("{bytes} bytes each, from this process to one in a sandbox that throws them away; the time ends when all have arrived there"),
        "wire, ip and frame are arithmetic: TCP's own count of segments (tcp_info), each with its headers at this MTU".to_owned(),
        "iperf3 shows payload; iftop shows IP packets, divides by 1024², and calls that Mb".to_owned(),
    ];
    let mut boxed = Boxed::new(garth, journal, "link")?;
    let port = free_port()?;
    let flags = ["-p".to_owned(), format!("127.0.0.1:{port}:{PORT}")];
    let command = [garth.display().to_string(), "bench".into(), "sink".into(), PORT.to_string()];
    boxed.start(&flags, &command)?;
    let record = boxed.record()?;
    let network = record.resources.network.as_ref();
    let published = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let end = network.map(|network| network.end());
    let index = end.as_ref().map(|end| end.index);
    until_it_answers(&boxed, published)?;

    let here = Sink::here(garth)?;
    let veth = Sink::behind_veth(garth, &mut notes);
    let mut ways: Vec<(&str, SocketAddr, Option<u32>)> =
        vec![("loopback, no sandbox", here.at, None)];
    if let Some(veth) = &veth {
        ways.push(("a bare veth", veth.at, None));
    }
    let proxy = match network {
        Some(network) => {
            let inside = SocketAddr::from((network.inner4, PORT));
            ways.push(("the sandbox's link", inside, index));
            ways.push(("a published port", published, index));
            DockerProxy::before(inside, &mut notes)?
        }
        None => {
            ways.push(("a published port (pasta)", published, None));
            None
        }
    };
    if let Some(proxy) = &proxy {
        ways.push(("docker's userland proxy", proxy.at, index));
    }
    let contenders = ways.iter().map(|(name, at, index)| {
        Contender::new(*name, || {
            let transfer = send(*at, bytes, *index)?;
            Ok(vec![mbit(transfer.bytes, transfer.seconds)])
        })
    });
    let title = "Payload through each way, one connection";
    let mut table = BenchTable {
        title: title.to_owned(),
        columns: vec!["Mbit/s".into()],
        more_is_better: true,
        base: Some(ways[0].0.to_owned()),
        rows: interleaved(contenders.collect(), rounds, 1, title, tell)?,
        conclusions: Vec::new(),
    };
    table.conclude("the sandbox's link", "a bare veth");
    table.conclude("a published port", "the sandbox's link");
    table.conclude("a published port", "docker's userland proxy");
    let mut tables = vec![table];
    if let (Some(end), Some(inside)) = (&end, network.map(|network| network.inner4)) {
        let at = SocketAddr::from((inside, PORT));
        let as_it_is = send(at, bytes, index)?;
        let title =
            "The account of one transfer over the sandbox's link, as the kernel hands segments on";
        tables.push(account(title, &as_it_is, end.mtu));
        match without_offload(&end.name) {
            Ok(()) => {
                let cut = send(at, bytes.min(64 << 20), index)?;
                let title = "The same with each segment in a frame of its own (tso, gso off)";
                tables.push(account(title, &cut, end.mtu));
            }
            Err(error) => notes.push(format!("segments were not cut before the link: {error}")),
        }
    }
    Ok(BenchReport::new("link", tables, notes))
}

fn mbit(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 * 8.0 / 1e6 / seconds
}

/// What each layer says of a transfer.
fn account(title: &str, transfer: &Transfer, mtu: u32) -> BenchTable {
    let Transfer { seconds, bytes, segments, timestamps, frames } = *transfer;
    let segment = Segment { mtu, ipv6: false, timestamps };
    // The last segment may be short; its headers are not.
    let headers = |layer| segment.bytes(layer) - segment.bytes(Layer::Payload);
    let sum = |layer| bytes + headers(layer) * segments;
    let wire = sum(Layer::Wire);
    let row = |name: &str, shown: f64, bytes: u64| {
        let one = |value| Spread::of(vec![value]);
        let part = bytes as f64 / wire as f64 * 100.0;
        BenchRow { name: name.to_owned(), figures: vec![one(shown), one(bytes as f64), one(part)] }
    };
    let mut rows = Vec::new();
    for layer in Layer::ALL {
        let bytes = sum(layer);
        rows.push(row(&format!("{layer}, by TCP's segments"), mbit(bytes, seconds), bytes));
    }
    if let Some((count, bytes)) = frames {
        let name = format!("frame, as the link counts ({count} frames)");
        rows.push(row(&name, mbit(bytes, seconds), bytes));
        if let Some(bytes) = Layer::Wire.of_frames(bytes, count) {
            rows.push(row("wire, by the link's frames", mbit(bytes, seconds), bytes));
        }
    }
    rows.push(row("iperf3 would show: payload", mbit(bytes, seconds), bytes));
    let ip = sum(Layer::Ip);
    let iftop = ip as f64 * 8.0 / BINARY_MILLION / seconds;
    rows.push(row("iftop would show, as \"Mb\": ip in units of 1024²", iftop, ip));
    let theory = segment.part(Layer::Payload, Layer::Wire) * 100.0;
    let measured = bytes as f64 / wire as f64 * 100.0;
    let conclusion = format!(
        "payload is {measured:.2} % of the wire; of full segments at MTU {mtu}{} it is {theory:.2} %",
        if timestamps { " with timestamps" } else { "" }
    );
    BenchTable {
        title: title.to_owned(),
        columns: COLUMNS.map(String::from).to_vec(),
        more_is_better: true,
        base: None,
        rows,
        conclusions: vec![conclusion],
    }
}

/// Sends so many bytes and waits until all have arrived.
fn send(at: SocketAddr, bytes: u64, link: Option<u32>) -> Result<Transfer> {
    let failed = |error: std::io::Error| Error::io(format!("send to {at}"), &error);
    let moved =
        || Ok::<_, Error>(link.and_then(|link| counters::of_host_ends().ok()?.get(&link).copied()));
    let before = moved()?;
    let begun = Instant::now();
    let mut socket = TcpStream::connect_timeout(&at, Duration::from_secs(5)).map_err(failed)?;
    socket.set_read_timeout(Some(Duration::from_secs(60))).map_err(failed)?;
    let zeros = vec![0; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let some = left.min(zeros.len() as u64);
        socket.write_all(&zeros[..some as usize]).map_err(failed)?;
        left -= some;
    }
    socket.shutdown(std::net::Shutdown::Write).map_err(failed)?;
    let mut arrived = [0; 8];
    socket.read_exact(&mut arrived).map_err(failed)?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = moved()?;
    let info =
        sockopt::tcp_info(socket.as_fd()).map_err(|errno| Error::os("read tcp_info", errno))?;
    if u64::from_be_bytes(arrived) != bytes {
        return Err(Error::new(format!(
            "{at}: {} of {bytes} bytes arrived",
            u64::from_be_bytes(arrived)
        )));
    }
    let frames = before.zip(after).map(|(before, after)| {
        (after.down.packets - before.down.packets, after.down.bytes - before.down.bytes)
    });
    let (segments, timestamps) = (u64::from(info.segments), info.timestamps);
    Ok(Transfer { seconds, bytes, segments, timestamps, frames })
}

fn until_it_answers(boxed: &Boxed, at: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match send(at, 1, None) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > end => {
                let log = boxed.log();
                return Err(if log.is_empty() { error } else { error.hint(log) });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Segments are cut before they are handed to the link.
fn without_offload(link: &str) -> Result<()> {
    match sbin("ethtool") {
        None => Err(Error::new("ethtool is not installed")),
        Some(_) => output(&["ethtool", "-K", link, "tso", "off", "gso", "off"]).map(drop),
    }
}

/// A receiver on this host; it ends with this.
struct Sink {
    child: Child,
    at: SocketAddr,
    /// Our end of a pair of links to it.
    link: Option<String>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // It goes with the receiver's namespace, but a moment later.
        if let Some(link) = &self.link {
            let _ = output(&["ip", "link", "delete", link]);
        }
    }
}

impl Sink {
    fn here(garth: &Path) -> Result<Sink> {
        let port = free_port()?;
        let words = ["bench".to_owned(), "sink".into(), port.to_string()];
        Sink::start(program::new(garth).args(words), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    fn start(command: &mut std::process::Command, at: SocketAddr) -> Result<Sink> {
        Sink::spawn(command, at)?.that_answers()
    }

    fn spawn(command: &mut std::process::Command, at: SocketAddr) -> Result<Sink> {
        program::with_us(command);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(|error| Error::io("start a receiver", &error))?;
        Ok(Sink { child, at, link: None })
    }

    fn that_answers(self) -> Result<Sink> {
        let end = Instant::now() + Duration::from_secs(5);
        while let Err(error) = send(self.at, 1, None) {
            if Instant::now() > end {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// One in a network namespace of its own, with a pair of links to it as anyone would make it. Both end with the
    /// receiver. `None`: it cannot be made here, which is noted.
    fn behind_veth(garth: &Path, notes: &mut Vec<String>) -> Option<Sink> {
        if !facts::privileged() {
            notes.push("a bare veth: only root makes links".into());
            return None;
        }
        Sink::make_behind_veth(garth)
            .map_err(|error| notes.push(format!("a bare veth: {error}")))
            .ok()
    }

    fn make_behind_veth(garth: &Path) -> Result<Sink> {
        // Of the network that RFC 2544 sets aside for benchmarks.
        let [outer, inner] = [1, 2].map(|last| Ipv4Addr::new(198, 18, 114, last));
        let mut command = program::new("unshare");
        command.arg("-n").arg(garth).args(["bench", "sink"]).arg(PORT.to_string());
        let mut sink = Sink::spawn(&mut command, (inner, PORT).into())?;
        let pid = sink.child.id().to_string();
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        let end = Instant::now() + Duration::from_secs(5);
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).ok() == own && Instant::now() < end
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let name = format!("gbench{}", std::process::id() % 10_000);
        let [outer, inner] = [outer, inner].map(|address| format!("{address}/30"));
        output(&[
            "ip", "link", "add", &name, "type", "veth", "peer", "name", "veth", "netns", &pid,
        ])?;
        sink.link = Some(name.clone());
        output(&["ip", "address", "add", &outer, "dev", &name])?;
        output(&["ip", "link", "set", &name, "up"])?;
        let inside = ["nsenter", "-n", "-t", &pid, "ip"];
        output(&[&inside[..], &["address", "add", &inner, "dev", "veth"]].concat())?;
        output(&[&inside[..], &["link", "set", "veth", "up"]].concat())?;
        sink.that_answers()
    }
}

/// What docker puts before published ports unless it is told not to.
struct DockerProxy;

impl DockerProxy {
    fn before(inside: SocketAddr, notes: &mut Vec<String>) -> Result<Option<Sink>> {
        let Some(path) = sbin("docker-proxy").filter(|_| facts::privileged()) else {
            notes.push("docker's userland proxy: docker-proxy is not installed".into());
            return Ok(None);
        };
        let port = free_port()?.to_string();
        let container = inside.ip().to_string();
        // It says at descriptor 3 that it works, and fails without one.
        let mut command = program::new("sh");
        command.args(["-c", "exec \"$@\" 3>/dev/null", "sh"]).arg(path);
        command.args(["-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", &port]);
        command.args(["-container-ip", &container, "-container-port", &inside.port().to_string()]);
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap_or(0)));
        match Sink::start(&mut command, at) {
            Ok(proxy) => Ok(Some(proxy)),
            Err(error) => {
                notes.push(format!("docker's userland proxy: does not work here: {error}"));
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_full_segments_is_that_of_the_books() {
        let segments = 1000;
        let transfer = Transfer {
            seconds: 1.0,
            bytes: 1448 * segments,
            segments,
            timestamps: true,
            frames: Some((segments, 1514 * segments)),
        };
        let table = account("t", &transfer, 1500);
        let bytes: Vec<f64> =
            table.rows.iter().filter_map(|row| row.figures[1]).map(|it| it.median).collect();
        let expected = [1448.0, 1500.0, 1514.0, 1538.0, 1514.0, 1538.0, 1448.0, 1500.0];
        assert_eq!(bytes, expected.map(|size| size * segments as f64));
        assert_eq!(
            table.conclusions[0],
            "payload is 94.15 % of the wire; of full segments at MTU 1500 with timestamps it is 94.15 %"
        );
        // 7 % at gigabit, as the posts found out, in the other direction.
        let [ip, iftop] = [1, 7].map(|row: usize| table.rows[row].figures[0].unwrap().median);
        assert!((ip / iftop - 1.048_576).abs() < 1e-9, "{ip} {iftop}");
    }
}
