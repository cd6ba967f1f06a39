//! What is valid, and yet hardly what somebody wants.

use std::collections::BTreeSet;

use super::{AffinityKey, Cluster, Config, Listener};

impl Config {
    /// What is to be said about it when it is checked and when it is run.
    pub fn warnings(&self) -> Vec<String> {
        let indistinct =
            self.listeners.iter().flat_map(|listener| self.indistinct_clients(listener));
        let unverified = self.clusters.iter().filter_map(|cluster| unverified_backends(cluster));
        indistinct
            .chain(unverified)
            .chain(self.tokens_in_the_clear())
            .chain(self.users_without_a_way())
            .collect()
    }

    /// Users who would be listened to, and cannot connect.
    fn users_without_a_way(&self) -> Option<String> {
        let control = self.control.as_ref()?;
        let own = rustix::process::geteuid().as_raw();
        let others = control.allow_uids.iter().any(|user| *user != 0 && *user != own);
        let closed = control.socket_mode & 0o022 == 0;
        (others && closed).then(|| {
            format!(
                "control: with `socket_mode` {:04o} nobody but the owner of {} can connect, whoever \
                 is in `allow_uids`",
                control.socket_mode, control.listen
            )
        })
    }

    fn tokens_in_the_clear(&self) -> Option<String> {
        let control = self.control.as_ref()?;
        let seen = !control.listen.is_local() && control.tls.is_none();
        seen.then(|| {
            format!(
                "control: without `cert_file` whoever is between callers and {} can read their \
                 tokens",
                control.listen
            )
        })
    }

    /// Clients of a listener that only this machine reaches have one address, or none: they are
    /// told apart by what others say of them, or not at all.
    fn indistinct_clients(&self, listener: &Listener) -> Vec<String> {
        if !listener.listen.is_local() {
            return Vec::new();
        }
        let reached: BTreeSet<&str> = listener.clusters().map(|cluster| &**cluster).collect();
        let of_cluster = |cluster: &Cluster| {
            format!(
                "listeners.{}: cluster `{}` tells clients apart by \"source_ip\", and all that \
                 connect to {} look the same unless requests have an X-Forwarded-For",
                listener.name, cluster.name, listener.listen
            )
        };
        let clusters = self.clusters.iter().filter(|cluster| reached.contains(&*cluster.name));
        clusters
            .filter(|cluster| matches!(cluster.affinity.key, AffinityKey::SourceIp { .. }))
            .map(|cluster| of_cluster(cluster))
            .collect()
    }
}

fn unverified_backends(cluster: &Cluster) -> Option<String> {
    let tls = cluster.tls.as_ref().filter(|tls| tls.client.insecure_skip_verify)?;
    let unused = tls.client.ca_file.as_ref().map_or("", |_| ", and `ca_file` is of no use");
    Some(format!(
        "clusters.{}.tls: with `insecure_skip_verify` whoever gets between this sidecar and the \
         backends can read and change everything{unused}",
        cluster.name
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load_text;

    fn warnings(listen: &str, by: &str) -> Vec<String> {
        let text = format!(
            "[listeners.web]\nlisten = \"{listen}\"\n\
             routes = [{{ path_prefix = \"/a\", cluster = \"api\" }}, {{ cluster = \"api\" }}]\n\
             [clusters.api.discovery]\nsource = \"static\"\nendpoints = []\n\
             [clusters.api.affinity]\nby = \"{by}\"\n"
        );
        load_text(Path::new("test.toml"), &text).unwrap().config.warnings()
    }

    #[test]
    fn affinity_by_an_address_that_all_clients_share_is_warned_of_once() {
        for listen in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "unix:/web.sock"] {
            let said = warnings(listen, "source_ip");
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with("listeners.web: cluster `api` "), "{said:?}");
            assert!(said[0].contains(listen), "{said:?}");
        }
    }

    #[test]
    fn backends_that_are_not_verified_are_warned_of() {
        let said = |keys: &str| {
            let text = format!(
                "[clusters.api.discovery]\nsource = \"static\"\nendpoints = []\n\
                 [clusters.api.tls]\n{keys}"
            );
            load_text(Path::new("test.toml"), &text).unwrap().config.warnings()
        };
        assert_eq!(said("ca_file = \"ca.pem\""), [""; 0]);
        let warned = said("insecure_skip_verify = true");
        assert_eq!(warned.len(), 1, "{warned:?}");
        assert!(warned[0].starts_with("clusters.api.tls: with `insecure_skip_verify` "));
        assert!(!warned[0].contains("ca_file"), "{warned:?}");
        let warned = said("ca_file = \"ca.pem\"\ninsecure_skip_verify = true");
        assert!(warned[0].ends_with("`ca_file` is of no use"), "{warned:?}");
    }

    #[test]
    fn callers_who_are_read_along_or_cannot_connect_are_warned_of() {
        let said = |keys: &str| {
            let text = format!("[control]\n{keys}\n");
            load_text(Path::new("test.toml"), &text).unwrap().config.warnings()
        };
        let token = "token_file = \"t\"\n";
        let warned = said(&format!("listen = \"10.0.0.1:9911\"\n{token}"));
        assert!(warned[0].starts_with("control: without `cert_file` "), "{warned:?}");
        let tls = "cert_file = \"c\"\nkey_file = \"k\"\n";
        assert_eq!(said(&format!("listen = \"10.0.0.1:9911\"\n{token}{tls}")), [""; 0]);
        assert_eq!(said(token), [""; 0]);
        let unix = "listen = \"unix:/run/control.sock\"\nallow_uids = [0, 54321]\n";
        let warned = said(unix);
        assert!(warned[0].starts_with("control: with `socket_mode` 0600 nobody "), "{warned:?}");
        assert_eq!(said(&format!("{unix}socket_mode = \"0666\"")), [""; 0]);
    }

    #[test]
    fn others_are_not_warned_of() {
        for (listen, by) in [
            ("0.0.0.0:80", "source_ip"),
            ("10.0.0.1:80", "source_ip"),
            ("127.0.0.1:80", "header"),
            ("127.0.0.1:80", "cookie"),
            ("127.0.0.1:80", "none"),
        ] {
            assert_eq!(warnings(listen, by), [""; 0], "{listen} by {by}");
        }
    }
}
