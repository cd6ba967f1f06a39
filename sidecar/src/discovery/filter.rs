//! Which discovered addresses may be used.
//!
//! What a registry says is not to be trusted blindly: whoever can write a record could point the
//! traffic of all apps at the metadata service of the cloud (169.254.169.254). Endpoints of the
//! configuration itself are not judged here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::cluster::Endpoint;
use crate::config;
use crate::net::Address;

#[derive(Debug)]
pub(super) struct Filter {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

/// Why an address is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("`discovery.deny` has it")]
    Denied,
    #[error("it is in no network of `discovery.allow`")]
    NotAllowed,
    #[error("link-local addresses are not used unless `discovery.allow` has them")]
    LinkLocal,
    #[error("multicast addresses are not used unless `discovery.allow` has them")]
    Multicast,
    #[error("unspecified addresses are not used unless `discovery.allow` has them")]
    Unspecified,
    #[error("the broadcast address is not used unless `discovery.allow` has it")]
    Broadcast,
}

/// What was refused of one answer, and why.
pub(super) type Refusals = BTreeMap<Address, Refused>;

impl Filter {
    pub(super) fn new(config: &config::AddressFilter) -> Self {
        Self { allow: config.allow.clone(), deny: config.deny.clone() }
    }

    pub(super) fn admits(&self, address: &Address) -> Result<(), Refused> {
        let Address::Tcp(address) = address else { return Ok(()) };
        // ::ffff:169.254.0.1 is reached as 169.254.0.1, so it is judged as that.
        let ip = address.ip().to_canonical();
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&ip));
        if within(&self.deny) {
            return Err(Refused::Denied);
        }
        match self.allow.as_slice() {
            [] => usual(ip),
            allow if within(allow) => Ok(()),
            _ => Err(Refused::NotAllowed),
        }
    }

    /// Those that may be used; the others, with the reason.
    pub(super) fn sift(&self, mut endpoints: Vec<Endpoint>) -> (Vec<Endpoint>, Refusals) {
        let mut refusals = Refusals::new();
        endpoints.retain(|endpoint| match self.admits(&endpoint.address) {
            Ok(()) => true,
            Err(why) => {
                refusals.insert(endpoint.address.clone(), why);
                false
            }
        });
        (endpoints, refusals)
    }
}

/// Refuses the kinds of address that no backend has.
fn usual(ip: IpAddr) -> Result<(), Refused> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    match ip {
        _ if link_local => Err(Refused::LinkLocal),
        _ if ip.is_multicast() => Err(Refused::Multicast),
        _ if ip.is_unspecified() => Err(Refused::Unspecified),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Err(Refused::Broadcast),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: &[&str], deny: &[&str]) -> Filter {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Filter::new(&config::AddressFilter { allow: networks(allow), deny: networks(deny) })
    }

    fn judged(filter: &Filter, address: &str) -> Result<(), Refused> {
        filter.admits(&address.parse().unwrap())
    }

    #[test]
    fn kinds_that_no_backend_has_are_refused() {
        let usual = filter(&[], &[]);
        for address in
            ["10.0.0.1:80", "127.0.0.1:80", "[::1]:80", "[2001:db8::1]:80", "unix:/run/a"]
        {
            assert_eq!(judged(&usual, address), Ok(()), "{address}");
        }
        for (address, why) in [
            ("169.254.169.254:80", Refused::LinkLocal),
            ("[fe80::1]:80", Refused::LinkLocal),
            ("[febf::1]:80", Refused::LinkLocal),
            ("224.0.0.1:80", Refused::Multicast),
            ("[ff02::1]:80", Refused::Multicast),
            ("0.0.0.0:80", Refused::Unspecified),
            ("[::]:80", Refused::Unspecified),
            ("255.255.255.255:80", Refused::Broadcast),
        ] {
            assert_eq!(judged(&usual, address), Err(why), "{address}");
        }
    }

    #[test]
    fn a_mapped_address_is_judged_as_what_it_means() {
        let usual = filter(&[], &["10.0.0.0/8"]);
        assert_eq!(judged(&usual, "[::ffff:169.254.169.254]:80"), Err(Refused::LinkLocal));
        assert_eq!(judged(&usual, "[::ffff:0.0.0.0]:80"), Err(Refused::Unspecified));
        assert_eq!(judged(&usual, "[::ffff:10.1.1.1]:80"), Err(Refused::Denied));
        assert_eq!(judged(&filter(&["10.0.0.0/8"], &[]), "[::ffff:10.1.1.1]:80"), Ok(()));
    }

    #[test]
    fn deny_wins_and_allow_admits_nothing_else() {
        let both = filter(&["10.0.0.0/8", "169.254.7.0/24"], &["10.1.0.0/16"]);
        for (address, expected) in [
            ("10.2.0.1:80", Ok(())),
            ("10.1.0.1:80", Err(Refused::Denied)),
            ("192.168.0.1:80", Err(Refused::NotAllowed)),
            ("127.0.0.1:80", Err(Refused::NotAllowed)),
            ("[::1]:80", Err(Refused::NotAllowed)),
            ("169.254.7.1:80", Ok(())),
            ("169.254.8.1:80", Err(Refused::NotAllowed)),
            ("unix:/run/a", Ok(())),
        ] {
            assert_eq!(judged(&both, address), expected, "{address}");
        }
    }

    #[test]
    fn what_is_refused_is_sifted_out_and_named() {
        let addresses = ["10.0.0.1:80", "0.0.0.0:80", "10.0.0.2:80"];
        let endpoints = addresses.map(|address| Endpoint::new(address.parse().unwrap()));
        let (admitted, refused) = filter(&[], &[]).sift(endpoints.to_vec());
        assert_eq!(admitted, [endpoints[0].clone(), endpoints[2].clone()]);
        let expected = [(endpoints[1].address.clone(), Refused::Unspecified)];
        assert_eq!(refused, expected.into());
    }
}
