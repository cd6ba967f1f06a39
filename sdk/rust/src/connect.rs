//! Where the sidecar is, and as whom to call it.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use outrigger_proto::v1::control_service_client::ControlServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::Client;
use crate::error::Error;

/// Where the control API listens if nobody says otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9911";
const DEFAULT_DEADLINE: Duration = Duration::from_secs(2);
/// How long a connection may be silent before the sidecar is asked whether it still is there, and how
/// long that may take. Streams have no deadline that would tell.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) type Api = ControlServiceClient<InterceptedService<Channel, Credentials>>;

/// How to reach the sidecar.
///
/// What is not set is taken from the environment, else from the sidecar's own defaults: the address from
/// `OUTRIGGER_CONTROL`, else `127.0.0.1:9911`; the token from the file that
/// `OUTRIGGER_CONTROL_TOKEN_FILE` names, else none.
#[derive(Debug, Default)]
pub struct Builder {
    address: Option<String>,
    credentials: Option<Credentials>,
    deadline: Option<Duration>,
    owner: String,
    #[cfg(feature = "tls")]
    tls: Option<tonic::transport::ClientTlsConfig>,
}

impl Builder {
    /// `HOST:PORT` or `unix:PATH`.
    pub fn address(self, address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..self }
    }

    /// The token to call with.
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { credentials: Some(Credentials::Token(token.into())), ..self }
    }

    /// The file whose first line is the token. It is read for each call, so that it may be replaced.
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        Self { credentials: Some(Credentials::File(path.into())), ..self }
    }

    /// How long a call may take, with all its attempts; 2 s by default.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// What the app calls itself in orders that have a TTL: 1..=64 printable ASCII characters without
    /// spaces; `sdk` by default. An owner has one order of a kind for a backend.
    pub fn owner(self, owner: impl Into<String>) -> Self {
        Self { owner: owner.into(), ..self }
    }

    /// TLS to the sidecar, with the authority that it is checked against.
    #[cfg(feature = "tls")]
    pub fn tls(self, tls: tonic::transport::ClientTlsConfig) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// A client, which connects with its first call, and again whenever it must.
    ///
    /// [`Error::Invalid`] if the address is none. Panics outside of a tokio runtime.
    pub fn connect(self) -> Result<Client, Error> {
        let address = self.address.or_else(|| env::var("OUTRIGGER_CONTROL").ok());
        let address = address.unwrap_or_else(|| DEFAULT_ADDRESS.into());
        let deadline = self.deadline.unwrap_or(DEFAULT_DEADLINE);
        #[cfg(feature = "tls")]
        let endpoint = match self.tls {
            Some(tls) => endpoint(&address, "https")?.tls_config(tls).map_err(|e| {
                Error::invalid("tls", format!("no configuration for `{address}`: {e}"))
            })?,
            None => endpoint(&address, "http")?,
        };
        #[cfg(not(feature = "tls"))]
        let endpoint = endpoint(&address, "http")?;
        let channel = endpoint.connect_timeout(deadline).connect_lazy();
        let credentials = self.credentials.unwrap_or_else(Credentials::of_environment);
        let api = ControlServiceClient::with_interceptor(channel, credentials);
        Ok(Client::new(api, deadline, self.owner))
    }
}

pub(crate) fn endpoint(address: &str, scheme: &str) -> Result<Endpoint, Error> {
    let wrong =
        || Error::invalid("address", format!("want HOST:PORT or unix:PATH, got `{address}`"));
    let endpoint = match address.strip_prefix("unix:") {
        Some("") => return Err(wrong()),
        // Of a socket the authority says nothing, and the sidecar accepts its own names only.
        Some(path) => Endpoint::from_shared(format!("unix:{path}"))
            .map(|endpoint| endpoint.origin(http::Uri::from_static("http://localhost"))),
        None => {
            let authority: http::uri::Authority = address.parse().map_err(|_| wrong())?;
            authority.port_u16().ok_or_else(wrong)?;
            Endpoint::from_shared(format!("{scheme}://{authority}"))
        }
    };
    let endpoint = endpoint.map_err(|_| wrong())?;
    Ok(endpoint
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// What a call shows to be let in.
#[derive(Clone)]
pub(crate) enum Credentials {
    None,
    Token(String),
    File(PathBuf),
}

impl Credentials {
    fn of_environment() -> Self {
        match env::var_os("OUTRIGGER_CONTROL_TOKEN_FILE") {
            Some(path) => Self::File(path.into()),
            None => Self::None,
        }
    }

    fn header(&self) -> Result<Option<MetadataValue<Ascii>>, Status> {
        let token = match self {
            Self::None => return Ok(None),
            Self::Token(token) => token.clone(),
            Self::File(path) => std::fs::read_to_string(path).map_err(|e| {
                Status::unauthenticated(format!("token file `{}`: {e}", path.display()))
            })?,
        };
        let token = token.lines().next().unwrap_or_default().trim();
        let header = format!("Bearer {token}").parse();
        let mut header: MetadataValue<Ascii> = header.map_err(|_| {
            Status::unauthenticated("the token must be of printable ASCII characters")
        })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = self.header()? {
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}
