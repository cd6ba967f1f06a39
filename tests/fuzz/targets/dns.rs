//! Answers of nameservers: whatever the bytes, there is no panic, no loop, and no endpoint that an
//! answer to the question did not name.

#![no_main]

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::proto::serialize::binary::BinDecodable;
use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::discovery::dns;
use outrigger_fuzz::net::Address;

fuzz_target!(|bytes: &[u8]| {
    let name = Name::from_ascii("_api._tcp.test.").expect("a name");
    let query = Query::query(name, RecordType::SRV);
    let Some((endpoints, decided)) = dns::read(bytes, &query) else { return };
    let message = Message::from_bytes(bytes).expect("it was read before");
    let services = message.answers.iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    });
    let services: Vec<_> = services.collect();
    assert!(!decided || endpoints.is_empty());
    for endpoint in &endpoints {
        let Address::Tcp(address) = &endpoint.address else { panic!("{endpoint:?}") };
        assert_ne!(address.port(), 0);
        assert!(endpoint.weight <= 256 * u32::from(u16::MAX));
        let says = |srv: &&&_| {
            let srv: &hickory_resolver::proto::rr::rdata::SRV = srv;
            srv.port == address.port() && srv.priority == endpoint.priority
        };
        assert!(services.iter().any(|srv| says(&srv)), "{endpoint:?}");
        assert!(endpoint.host().to_str().is_ok());
    }
});
