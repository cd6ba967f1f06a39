//! Answers of Consul: whatever the bytes, there is no panic, and every endpoint is one that could be
//! connected to and has a weight that discovery may give.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::config::{ConsulName, ConsulService};
use outrigger_fuzz::discovery::consul;
use outrigger_fuzz::net::Address;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let name = match first & 1 {
        0 => ConsulName::Service("api".into()),
        _ => ConsulName::Query("api".into()),
    };
    let service = ConsulService {
        name,
        tags: if first & 2 == 0 { Vec::new() } else { vec!["v2".into()] },
        passing_only: first & 4 != 0,
        datacenter: None,
        namespace: None,
        filter: None,
        priority_key: "outrigger-priority".into(),
    };
    let Some((endpoints, instances)) = consul::read(rest, &service) else { return };
    assert!(endpoints.len() <= instances);
    for endpoint in &endpoints {
        let Address::Tcp(address) = &endpoint.address else { panic!("{endpoint:?}") };
        assert_ne!(address.port(), 0);
        assert!(endpoint.weight <= 256 * u32::from(u16::MAX));
        assert!(endpoint.node.is_some() && endpoint.host().to_str().is_ok());
    }
});
