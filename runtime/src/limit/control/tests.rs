//! The controller against a model of a link: thousands of links, queues, windows and machines.

use super::*;

/// A small deterministic generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Between two numbers, log-uniform.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.next())
    }
}

/// A process that sends or receives as fast as it can over a link.
#[derive(Clone, Debug)]
struct Link {
    /// Bytes per second that the link carries.
    capacity: f64,
    /// The largest fraction that other traffic takes; it changes every tenth of a second.
    others: f64,
    /// Seconds.
    round_trip: f64,
    /// Bytes queued between process and link: a socket's buffer, or a receiver's window.
    queue: f64,
    /// Bytes per second between process and socket.
    memory: f64,
    /// The process receives: the queue fills while it is stopped, instead of draining.
    receives: bool,
    /// Seconds until a stop, a continue or a look takes effect, at most.
    lateness: f64,
}

/// What the model has moved, and how the target fared.
#[derive(Default, Debug)]
struct Course {
    /// Bytes moved by the link, per millisecond.
    moved: Vec<f64>,
    longest_stop: f64,
    turns: u32,
}

/// The link and the process for `seconds`, under the controller.
fn run(link: &Link, settings: Tuning, seconds: f64, random: &mut Random) -> (Course, ClosedLoop) {
    const STEP: f64 = 0.000_25;
    // An upload starts with a full buffer, as the process was not held back before.
    let mut queued = if link.receives { 0.0 } else { link.queue };
    let (mut written, mut moved, mut window) = (queued, 0.0, 0.0f64);
    // What the sender may do follows the round trip, as congestion windows and acknowledgments do.
    let mut flow = link.capacity;
    let mut controller = ClosedLoop::new(settings, Duration::ZERO, 0);
    let (mut running, mut wanted) = (true, true);
    let (mut look_at, mut turn_at) = (0.0, f64::MAX);
    let (mut stopped_at, mut share, mut noise_until) = (0.0, 1.0, 0.0);
    let mut course = Course::default();
    let mut now = 0.0;
    let mut next_mark = 0.0;
    while now < seconds {
        if now >= next_mark {
            course.moved.push(moved);
            next_mark += 0.001;
        }
        if now >= noise_until {
            share = 1.0 - link.others * random.next();
            noise_until = now + 0.1;
        }
        if now >= look_at {
            // For a receiver: what has arrived, or what it has read and so made room for.
            let committed = if link.receives { f64::max(moved, written + window) } else { written };
            let decision = {
                let now = Duration::from_secs_f64(now);
                controller.decide(now, committed as u64, written as u64)
            };
            if decision.run != wanted {
                wanted = decision.run;
                turn_at = now + link.lateness * random.next();
            }
            look_at = now + decision.look_in.as_secs_f64() + link.lateness * random.next() / 2.0;
        }
        if now >= turn_at {
            turn_at = f64::MAX;
            course.turns += 1;
            if running && !wanted {
                stopped_at = now;
            } else if !running && wanted {
                course.longest_stop = course.longest_stop.max(now - stopped_at);
            }
            running = wanted;
        }
        let room = link.queue - queued;
        let available = if link.receives { room } else { queued };
        // With nothing to send the flow drops; otherwise it recovers within a few round trips.
        let target = if available > 1.0 { link.capacity * share } else { link.capacity * 0.1 };
        flow += (target - flow) * (STEP / (STEP + link.round_trip));
        let wire = (flow * STEP).min(available);
        moved += wire;
        if link.receives {
            queued += wire;
            let read = if running { (link.memory * STEP).min(queued) } else { 0.0 };
            queued -= read;
            written += read;
            if !running {
                window = window.max(queued);
            }
        } else {
            queued -= wire;
            let write = if running { (link.memory * STEP).min(link.queue - queued) } else { 0.0 };
            queued += write;
            written += write;
        }
        now += STEP;
    }
    (course, controller)
}

fn some_link(random: &mut Random) -> Link {
    let capacity = random.between(1e5, 1.25e9);
    // A connection that uses its link fully has one round trip in its window; the kernel gives no
    // window above 4 MB.
    let round_trip = random.between(0.000_1, (3e6 / capacity).clamp(0.000_2, 0.2));
    let least = f64::max(16_384.0, capacity * round_trip.max(0.001));
    Link {
        capacity,
        others: if random.next() < 0.5 { 0.0 } else { random.next() * 0.3 },
        round_trip,
        queue: random.between(least, 4e6f64.max(least * 2.0)),
        memory: random.between(capacity.max(1e7), 4e9f64.max(capacity * 1.01)),
        receives: random.next() < 0.5,
        lateness: random.between(0.000_05, 0.004),
    }
}

/// The period that matters for a link: as requested, or what it takes to pay for the largest burst.
fn period(link: &Link, settings: &Tuning) -> f64 {
    let late = settings.shortest_run.as_secs_f64() + 2.0 * link.lateness;
    let burst = link.queue.min(link.memory * late) + link.capacity * late;
    // What is queued at the beginning is paid for first.
    settings.period.as_secs_f64().max(burst / settings.rate).max(link.queue / settings.rate)
}

#[test]
fn it_settles_within_three_periods_and_stays_within_five_percent() {
    let mut random = Random(1);
    let (mut tried, mut worst) = (0, 0.0f64);
    while tried < 3000 {
        let link = some_link(&mut random);
        let left = link.capacity * (1.0 - link.others);
        // Slow ones recover too slowly from each stop to use their link fully.
        let part = if link.round_trip > 0.02 { 0.3 } else { 0.8 };
        let settings = Tuning::of_rate(random.between(left * 0.02, left * part));
        let period = period(&link, &settings);
        // Beyond that no stop can hold the rate; another test covers it.
        if period > settings.longest_stop.as_secs_f64() * 0.8 || period > 0.5 {
            continue;
        }
        tried += 1;
        let from = 3.0 * period;
        let window = 20.0 * period;
        let (course, controller) = run(&link, settings, from + window + 0.01, &mut random);
        let at = |second: f64| course.moved[(second * 1000.0) as usize];
        // Over a window that begins and ends anywhere in a period.
        let rate = (at(from + window) - at(from)) / window;
        let error = (rate / settings.rate - 1.0).abs();
        worst = worst.max(error);
        assert!(error <= 0.05, "{error:.3} off: {link:?} {settings:?} period {period}");
        assert_eq!(controller.forgiven(), 0, "{link:?} {settings:?}");
        let allowed = settings.longest_stop.as_secs_f64() + 2.0 * link.lateness + 0.001;
        assert!(course.longest_stop <= allowed, "{} s: {link:?}", course.longest_stop);
    }
    println!("{tried} links, at worst {:.2} % off", worst * 100.0);
}

#[test]
fn it_never_starves_a_target_for_longer_than_asked() {
    let mut random = Random(2);
    let mut forgave = 0;
    for _ in 0..1000 {
        let link = some_link(&mut random);
        let longest = random.between(0.05, 2.0);
        let settings = Tuning {
            longest_stop: Duration::from_secs_f64(longest),
            // Far below what the queue lets through.
            ..Tuning::of_rate(random.between(1000.0, link.capacity))
        };
        let (course, controller) = run(&link, settings, 4.0, &mut random);
        let allowed = longest + 2.0 * link.lateness + 0.001;
        assert!(
            course.longest_stop <= allowed,
            "{} s of {longest}: {link:?} {settings:?}",
            course.longest_stop
        );
        forgave += usize::from(controller.forgiven() > 0);
    }
    assert!(forgave > 50, "the rates that cannot be held were not among them: {forgave}");
}

#[test]
fn what_is_slower_than_asked_is_never_stopped() {
    let mut random = Random(3);
    for _ in 0..300 {
        let link = Link { receives: true, queue: 1e6, ..some_link(&mut random) };
        let settings = Tuning::of_rate(link.capacity * (1.2 + random.next()));
        let (course, _) = run(&link, settings, 1.0, &mut random);
        assert_eq!(course.turns, 0, "{link:?} {settings:?}");
    }
}

#[test]
fn a_rest_does_not_save_up_for_more_than_two_periods() {
    let settings = Tuning::of_rate(1e6);
    let period = settings.period.as_secs_f64();
    let mut controller = ClosedLoop::new(settings, Duration::ZERO, 0);
    assert!(controller.decide(Duration::from_secs(1000), 0, 0).run);
    let most = (1e6 * period * 2.5) as u64;
    let soon = Duration::from_secs(1000) + Duration::from_millis(2);
    assert!(!controller.decide(soon, most + 3000, 0).run);
}

#[test]
fn what_never_came_to_pass_comes_back() {
    let settings = Tuning::of_rate(1e6);
    let ms = Duration::from_millis;
    let mut controller = ClosedLoop::new(settings, Duration::ZERO, 0);
    assert!(!controller.decide(ms(10), 1_000_000, 0).run);
    assert!(!controller.decide(ms(20), 1_000_000, 0).run);
    // The connection was cut, and what was queued in it is gone.
    assert!(controller.decide(ms(200), 100_000, 0).run);
}

#[test]
fn the_open_loop_runs_for_its_part_of_each_period() {
    let open = OpenLoop::new(Duty(0.4), Duration::from_secs(1), Duration::from_secs(7));
    let at = |ms: u64| open.decide(Duration::from_millis(7000 + ms));
    let decision = |run, ms| Decision { run, look_in: Duration::from_millis(ms) };
    assert_eq!(at(0), decision(true, 400));
    assert_eq!(at(399), decision(true, 1));
    assert_eq!(at(400), decision(false, 600));
    assert_eq!(at(1000), decision(true, 400));
    // A late look finds its place again.
    assert_eq!(at(5700), decision(false, 300));
    assert_eq!(open.longest_stop(), Duration::from_millis(600));
}

#[test]
fn duties_have_their_unit_and_leave_the_target_alive() {
    assert_eq!("40%".parse::<Duty>().unwrap(), Duty(0.4));
    assert_eq!(" 2.5 % ".parse::<Duty>().unwrap(), Duty(0.025));
    for (text, why) in [
        ("40", "missing % sign"),
        ("0.4", "missing % sign"),
        ("0%", "never run"),
        ("0.5%", "less than 1%"),
        ("100%", "never be stopped"),
        ("150%", "never be stopped"),
        ("-5%", "not a number"),
        ("inf%", "not a number"),
        ("%", "not a number"),
    ] {
        let line = text.parse::<Duty>().unwrap_err().to_string();
        assert!(line.contains(why) && !line.contains('\n'), "{line}");
    }
}
