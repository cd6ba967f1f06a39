//! What the fuzz targets share: the codec, drivers for it and for hyper, and one form of a message
//! to compare the two by.
//!
//! The codec is compiled from its own files, not through the sidecar: what else the sidecar needs
//! would take minutes to build with a sanitizer, and none of it is looked at here.

pub mod codec;
pub mod hyper;
pub mod intended;
pub mod message;

#[path = "../../../sidecar/src/cluster"]
pub mod cluster {
    // How endpoints of several answers become one set is not looked at here.
    #[allow(dead_code)]
    mod endpoint;

    pub use endpoint::{Endpoint, MAX_ENDPOINTS, Reported, WEIGHT_ONE};

    pub mod affinity {
        pub mod keyring;
        pub mod token;

        pub use keyring::Tags;
    }
}

#[path = "../../../sidecar/src/config"]
pub mod config {
    // What else a configuration says of sources is not looked at here.
    #[allow(dead_code)]
    mod discovery;

    pub use discovery::{ConsulName, ConsulService};
}

#[path = "../../../sidecar/src/net"]
pub mod net {
    mod address;
    pub mod buffer;
    pub mod proxy_protocol;

    pub mod tls {
        // Nothing is served here.
        #[allow(dead_code)]
        pub mod hello;
    }

    pub use address::Address;
}

#[path = "../../../sidecar/src/discovery"]
pub mod discovery {
    pub mod consul {
        pub mod instances;

        use crate::cluster::Endpoint;
        use crate::config::ConsulService;

        mod client {
            /// Of the reasons why there is no answer, the one that an answer can give.
            pub enum ConsulError {
                Broken(String),
            }
        }

        /// The endpoints that an answer comes to for this service, if it is one, and how many
        /// instances it has that can be used.
        pub fn read(bytes: &[u8], service: &ConsulService) -> Option<(Vec<Endpoint>, usize)> {
            let instances = match instances::parse(&service.name, bytes) {
                Ok(instances) => instances,
                Err(client::ConsulError::Broken(why)) => {
                    assert!(!why.is_empty());
                    return None;
                }
            };
            assert_eq!(instances.skipped > 0, instances.why.is_some());
            let endpoints = instances.list.iter().filter_map(|i| i.endpoint(service)).collect();
            Some((endpoints, instances.list.len()))
        }
    }

    pub mod dns {
        pub mod answer;
        pub mod srv;

        use std::net::IpAddr;

        use hickory_resolver::net::{DnsError as Refusal, NetError};
        use hickory_resolver::proto::op::{DnsResponse, Query};
        use hickory_resolver::proto::rr::{Name, RData, Record};

        use crate::cluster::Endpoint;
        use answer::{Answer, Reading};

        /// That of the aliases that led to the question; no answer makes it longer.
        const TTL: u32 = 60;

        /// What a nameserver's answer to this question comes to, if it is one: the endpoints with
        /// the addresses that came along, and whether it says that there is no service.
        pub fn read(bytes: &[u8], query: &Query) -> Option<(Vec<Endpoint>, bool)> {
            let response = DnsResponse::from_buffer(bytes.to_vec()).map_err(NetError::from);
            let response = response.and_then(|r| Refusal::from_response(r).map_err(NetError::from));
            match answer::read_answer(response, query, TTL).ok()? {
                Reading::Alias { to, ttl } => {
                    assert!(to.len() <= 255 && ttl <= TTL);
                    None
                }
                Reading::Answer(Answer::None { ttl }) => {
                    assert!(ttl <= TTL);
                    Some((Vec::new(), false))
                }
                Reading::Answer(Answer::Records { records, additional, ttl }) => {
                    assert!(ttl <= TTL);
                    let decided = srv::says_no_service(&records);
                    let of = |target: &Name| Ok(addresses(&additional, target));
                    let records = srv::records(&records);
                    assert!(srv::targets(&records).len() <= records.len());
                    Some((srv::endpoints(&records, of).ok()?, decided))
                }
            }
        }

        fn addresses(additional: &[Record], target: &Name) -> Vec<IpAddr> {
            let of_target = additional.iter().filter(|record| record.name == *target);
            let ip = |record: &Record| match &record.data {
                RData::A(ip) => Some(ip.0.into()),
                RData::AAAA(ip) => Some(ip.0.into()),
                _ => None,
            };
            of_target.filter_map(ip).collect()
        }
    }
}

#[path = "../../../sidecar/src/proxy"]
pub mod proxy {
    pub mod http {
        pub mod cookie;
        mod path;

        /// See `path::canonical`.
        pub fn canonical(path: &str) -> Option<std::borrow::Cow<'_, str>> {
            path::canonical(path)
        }

        pub mod h1 {
            pub mod decoder;
            pub mod defect;
            pub mod fields;
            pub mod framing;
            pub mod head;
            pub mod target;
        }
    }
}
