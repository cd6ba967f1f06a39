//! The control API: whether what is to be asked of callers is asked where it has to be.

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::units::{ModeText, OptionalAddressText};
use crate::config::{Control, ListenerTls, raw};
use crate::net::Address;

/// HTTP/2, which is all that is spoken.
const ALPN: &[u8] = b"h2";

impl Judge {
    /// The outer `None` is an error, the inner one means that it is off.
    pub(super) fn control(
        &mut self,
        raw: &raw::Control,
        path: &KeyPath,
    ) -> Option<Option<Control>> {
        let accepted = OptionalAddressText::ACCEPTS;
        let listen = raw.listen.parse();
        let listen = listen.or_else(|| self.refuse(path.key("listen"), &raw.listen.0, accepted));
        let mode = raw.socket_mode.parse().or_else(|| {
            let accepted = ModeText::ACCEPTS;
            self.refuse(path.key("socket_mode"), &raw.socket_mode.0, accepted)
        });
        let token_file = self.path(raw.token_file.as_ref(), path.key("token_file"));
        let tls = self.control_tls(raw, path);
        let Some(listen) = listen? else { return Some(None) };
        let control = Control {
            listen,
            socket_mode: mode?,
            allow_uids: raw.allow_uids.clone(),
            token_file,
            tls: tls?,
        };
        self.callers_are_known(&control, raw, path)?;
        Some(Some(control))
    }

    fn control_tls(&mut self, raw: &raw::Control, path: &KeyPath) -> Option<Option<ListenerTls>> {
        let identity = self.identity(raw.cert_file.as_ref(), raw.key_file.as_ref(), path);
        let client_ca_file = self.path(raw.client_ca_file.as_ref(), path.key("client_ca_file"));
        match (identity?, client_ca_file) {
            (None, None) => Some(None),
            (None, Some(_)) => {
                self.fault(path.key("client_ca_file"), "needs `cert_file` and `key_file`")
            }
            (Some(identity), client_ca_file) => {
                let (identities, alpn) = (vec![identity], vec![ALPN.to_vec()]);
                Some(Some(ListenerTls { identities, client_ca_file, alpn }))
            }
        }
    }

    /// Whoever reaches it from another machine has to say who it is, and a list of users is of no use
    /// where nobody knows them.
    fn callers_are_known(
        &mut self,
        control: &Control,
        raw: &raw::Control,
        path: &KeyPath,
    ) -> Option<()> {
        let asked = control.token_file.is_some() || control.asks_for_certificates();
        if !control.listen.is_local() && !asked {
            let message = format!(
                "got {:?}; accepted: a loopback address or \"unix:/path\", unless callers have to \
                 show a token (`token_file`) or a certificate (`client_ca_file`)",
                raw.listen.0
            );
            return self.fault(path.key("listen"), message);
        }
        if !raw.allow_uids.is_empty() && matches!(control.listen, Address::Tcp(_)) {
            let message = format!("are known on a unix socket only, not on {}", control.listen);
            return self.fault(path.key("allow_uids"), message);
        }
        Some(())
    }
}
