//! The values that a configuration's resources result in, without a cgroup to write them to: for
//! tests/fuzz, which looks for resources that cannot be computed.

use super::filter::DeviceFilter;
use super::hierarchy::Controller;
use super::{rules, v1, v2};
use crate::config::oci::Resources;
use crate::error::Result;

/// Computes all values of both generations, and the device rules.
pub fn compute(resources: &Resources) -> Vec<Result<()>> {
    let mut results = Vec::new();
    for look in [|_: &str| None, |_: &str| Some("100000 9223372036854771712".to_owned())] {
        for controller in Controller::ALL {
            results.push(v1::settings(controller, resources, &look).map(drop));
            results.push(v2::settings(controller, resources, &look).map(drop));
        }
    }
    results.push(rules::rules(resources).and_then(|rules| {
        assert!(!DeviceFilter::new(&rules).assemble().is_empty());
        rules::exceptions(&rules).map(drop)
    }));
    results
}
