//! Limiting a running process to a share of the time: `limit STATE PID PERCENT`.

use std::path::Path;
use std::time::Duration;

use garth::limit::{LimitRequest, Note, Target, Want, run};
use garth::{Error, Result};

/// The whole example.
pub fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, state, pid, percent] = args.as_slice() else {
        return Err(Error::new("write limit STATE PID PERCENT"));
    };
    let pid = pid.parse().map_err(|_| Error::new("not a process id"))?;
    let asked = LimitRequest {
        want: Want::Duty(percent.parse()?),
        period: Some(Duration::from_millis(100)),
        longest_stop: None,
        count: None,
        span: Some(Duration::from_secs(1)),
        tell_every: Duration::from_secs(1),
    };
    run(Path::new(state), Target::Pid(pid), &asked, &mut |note| {
        if let Note::Summary(figures) = note {
            println!("duty {:.0}%", figures.duty * 100.0);
        }
    })?;
    Ok(())
}
