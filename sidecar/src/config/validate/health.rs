//! Active health checks: the schedule, and the kinds of probe but `http`.

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, ProbeKind};
use crate::config::{Health, Probe, UdpProbe};

/// What an IPv4 packet of 65,535 bytes leaves to a datagram.
const MAX_DATAGRAM: usize = 65_507;

impl Judge {
    pub(super) fn health(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<Health> {
        let interval = self.duration(&raw.interval, path.key("interval"));
        let interval_unhealthy = match &raw.interval_unhealthy {
            Some(text) => self.duration(text, path.key("interval_unhealthy")),
            None => interval,
        };
        let timeout = self.duration(&raw.timeout, path.key("timeout"));
        let host = match &raw.host {
            Some(host) => self.literal_host(host, path.key("host"), "a host to send").map(Some),
            None => Some(None),
        };
        let probe = match raw.probe {
            None => self.missing(path.key("probe")),
            Some(kind) => {
                self.keys_of_other_probes(kind, raw, path);
                self.probe(kind, raw, path)
            }
        };
        Some(Health {
            probe: probe?,
            port: raw.port,
            host: host?,
            interval: interval?,
            interval_unhealthy: interval_unhealthy?,
            timeout: timeout?,
            rise: raw.rise,
            fall: raw.fall,
            skip_when_busy: raw.skip_when_busy,
        })
    }

    fn keys_of_other_probes(&mut self, kind: ProbeKind, raw: &raw::Health, path: &KeyPath) {
        use ProbeKind::{Grpc, Http, Udp};
        let takers: [(&str, bool, &[ProbeKind]); 10] = [
            ("host", raw.host.is_some(), &[Http, Grpc]),
            ("service", raw.service.is_some(), &[Grpc]),
            ("method", raw.method.is_some(), &[Http]),
            ("path", raw.path.is_some(), &[Http]),
            ("headers", !raw.headers.is_empty(), &[Http]),
            ("expect_status", raw.expect_status.is_some(), &[Http]),
            ("expect_body", raw.expect_body.is_some(), &[Http]),
            ("expect_json", raw.expect_json.is_some(), &[Http]),
            ("send", raw.send.is_some(), &[Udp]),
            ("expect", raw.expect.is_some(), &[Udp]),
        ];
        for (key, given, takers) in takers {
            if given && !takers.contains(&kind) {
                let message = format!("probe {:?} does not take it", kind.name());
                self.fault::<()>(path.key(key), message);
            }
        }
    }

    fn probe(&mut self, kind: ProbeKind, raw: &raw::Health, path: &KeyPath) -> Option<Probe> {
        match kind {
            ProbeKind::Tcp => Some(Probe::Tcp),
            ProbeKind::Udp => self.udp_probe(raw, path).map(Probe::Udp),
            ProbeKind::Http => self.http_probe(raw, path).map(|probe| Probe::Http(Box::new(probe))),
            ProbeKind::Grpc => {
                Some(Probe::Grpc { service: raw.service.clone().unwrap_or_default() })
            }
        }
    }

    fn udp_probe(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<UdpProbe> {
        let send = match &raw.send {
            Some(text) => self.datagram(text, path.key("send")),
            None => Some(Vec::new()),
        };
        let expect = match &raw.expect {
            Some(text) => self.datagram(text, path.key("expect")).map(Some),
            None => Some(None),
        };
        Some(UdpProbe { send: send?, expect: expect? })
    }

    fn datagram(&mut self, text: &str, path: KeyPath) -> Option<Vec<u8>> {
        let bytes = match text.strip_prefix("hex:") {
            Some(digits) => match from_hex(digits) {
                Some(bytes) => bytes,
                None => {
                    let accepted = "text, or \"hex:\" and two hexadecimal digits for each byte";
                    return self.refuse(path, text, accepted);
                }
            },
            None => text.into(),
        };
        if bytes.len() > MAX_DATAGRAM {
            let length = bytes.len();
            return self.fault(path, format!("is {length} bytes; a datagram has {MAX_DATAGRAM}"));
        }
        Some(bytes)
    }
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() && !pairs.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_has_two_digits_a_byte() {
        assert_eq!(from_hex("00fFa0"), Some(vec![0x00, 0xff, 0xa0]));
        for bad in ["", "0", "0g", "00 ff", "+1", "é"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
