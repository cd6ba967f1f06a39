//! The control API, from the configuration to what is served.

use std::sync::Arc;

use super::{StartError, address, bind, supervise};
use crate::config;
use crate::control::tokens::Tokens;
use crate::control::{self, Control, Door, Services};
use crate::net::Address;
use crate::net::listen::Socket;
use crate::net::tls::server::Server;

/// A control API that listens and is not served yet.
pub(super) struct Bound {
    pub(super) address: Address,
    door: Door,
    settings: config::Control,
    tokens: Option<Arc<Tokens>>,
}

impl Bound {
    pub(super) fn bind(
        settings: &config::Control,
        tls: Option<Arc<Server>>,
    ) -> Result<Self, StartError> {
        let tokens = settings.token_file.as_deref().map(Tokens::load).transpose()?.map(Arc::new);
        let socket = match &settings.listen {
            Address::Tcp(_) => bind("control", &settings.listen)?,
            Address::Unix(path) => Socket::bind_with_mode(path, settings.socket_mode)
                .map_err(|error| StartError::bind("control", &settings.listen, error))?,
        };
        let address = address(&socket, "control", &settings.listen)?;
        Ok(Self { address, door: Door { socket, tls }, settings: settings.clone(), tokens })
    }

    /// Serves it for as long as the sidecar runs.
    pub(super) fn serve(self, control: &Arc<Control>) -> Result<(), StartError> {
        if let Some(tokens) = &self.tokens {
            let tokens = Arc::clone(tokens);
            supervise("tokens", move || Arc::clone(&tokens).follow());
        }
        for feed in &control.feeds {
            let feed = Arc::clone(feed);
            supervise("watch", move || Arc::clone(&feed).follow());
        }
        let services = Services::new(control, &self.settings, self.tokens)?;
        let (control, services) = (Arc::clone(control), Arc::new(services));
        let door = Arc::new(self.door);
        supervise("control", move || {
            control::run(Arc::clone(&control), Arc::clone(&services), Arc::clone(&door))
        });
        Ok(())
    }
}
