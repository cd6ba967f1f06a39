//! How requests name whom they are for.

use std::net::IpAddr;

/// Whether a Host or `:authority` names this machine, as its own clients do: `localhost` or a loopback
/// address, with or without a port. A page of some site may point its own name at 127.0.0.1 and have a
/// browser speak to what listens there; but then it is that name that the browser sends.
pub fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}
