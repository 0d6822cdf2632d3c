//! Where a service listens, and who may ask it.

use crate::exit::{Exit, Failure, OrExit};
use crate::interrupt::Leave;
use anyhow::Context;
use clap::Args;
use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use wick_serve::http::{Keys, Listener, Origin};

/// Where `--help` lists how a service is reached.
const HTTP: &str = "HTTP";

/// Where a service listens.
pub(crate) struct Listening {
    pub(crate) listeners: Vec<Listener>,
    /// The socket that was made for it.
    made: Option<PathBuf>,
}

impl Listening {
    /// What removes the socket that was made.
    pub(crate) fn remover(&self) -> Leave {
        let made = self.made.clone();
        Box::new(move || {
            if let Some(path) = &made {
                let _gone_already = fs::remove_file(path);
            }
        })
    }
}

/// Where a service listens, and who may ask it.
#[derive(Args)]
pub(crate) struct ListenArguments {
    /// Address to listen at; any but this machine's own needs --api-key-file
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", help_heading = HTTP)]
    host: String,
    /// Port to listen at; 0 for any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080, help_heading = HTTP)]
    port: u16,
    /// Listen at a Unix socket instead, which user and group may use
    #[arg(long, value_name = "PATH", help_heading = HTTP)]
    unix: Option<PathBuf>,
    /// File with keys, one a line, of which a request must have one; read again at SIGHUP
    #[arg(long, value_name = "FILE", help_heading = HTTP)]
    api_key_file: Option<PathBuf>,
    /// Listen beyond this machine without keys
    #[arg(long, help_heading = HTTP)]
    insecure: bool,
    /// Name under which the service is known besides localhost; several times for several
    #[arg(long, value_name = "NAME", help_heading = HTTP)]
    allow_host: Vec<String>,
    /// Let pages from there ask: scheme, host and port, or * for anywhere; several times for several
    #[arg(long, value_name = "ORIGIN", help_heading = HTTP)]
    cors: Vec<Origin>,
}

impl ListenArguments {
    /// The text of the file of keys, if there is one.
    pub(crate) fn read_keys(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.api_key_file else { return Ok(None) };
        let place = || path.display().to_string();
        fs::read_to_string(path).with_context(place).or_exit(Exit::Usage).map(Some)
    }

    /// The text of the file as it is now. A pipe, which has been read, has no more keys and no end.
    pub(crate) fn read_keys_again(&self) -> Result<Option<String>, Failure> {
        match &self.api_key_file {
            Some(path) if !path.is_file() => {
                let message = format_args!("{}: a file expected", path.display());
                Err(Failure::new(Exit::Usage, message))
            }
            _ => self.read_keys(),
        }
    }

    /// The keys; none if nobody needs one.
    pub(crate) fn keys(&self) -> Result<Keys, Failure> {
        let keys = Keys::default();
        if self.read_keys()?.is_some_and(|text| !keys.set(&text)) {
            let path = self.api_key_file.as_deref().unwrap_or(Path::new(""));
            let message = format_args!("{}: no key in it; one a line expected", path.display());
            return Err(Failure::new(Exit::Usage, message));
        }
        self.api_key_file.iter().for_each(|path| warn_of_readers(path));
        Ok(keys)
    }

    /// Names of this service's hosts.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let mut hosts = self.allow_host.clone();
        hosts.push(self.host.clone());
        hosts
    }

    /// Whose pages may ask.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        self.cors.clone()
    }

    /// Listens, beyond this machine only if there are keys. Sockets that the process was started with go before all that is
    /// asked for (sd_listen_fds(3)).
    pub(crate) fn bind(&self, keys: &Keys) -> Result<Listening, Failure> {
        let inherited = inherited()?;
        if !inherited.is_empty() {
            let mut addresses = inherited.iter().filter_map(address);
            addresses.try_for_each(|address| self.refuse(address, keys))?;
            return Ok(Listening { listeners: inherited, made: None });
        }
        if let Some(path) = &self.unix {
            let listeners = vec![Listener::Unix(bind_unix(path)?)];
            return Ok(Listening { listeners, made: Some(path.clone()) });
        }
        let mut listeners = Vec::new();
        for address in self.addresses(keys)? {
            let bound = TcpListener::bind(address);
            let listener = bound.with_context(|| format!("{address} (--port takes another one)"));
            listeners.push(Listener::Tcp(listener.or_exit(Exit::Failed)?));
        }
        Ok(Listening { listeners, made: None })
    }

    /// Where the service would listen, for people. Nobody is there yet, so that a service that runs already is no hindrance.
    pub(crate) fn check(&self) -> Result<String, Failure> {
        let keys = self.keys()?;
        if let Some(path) = &self.unix {
            return Ok(path.display().to_string());
        }
        let places = self.addresses(&keys)?;
        let places: Vec<_> = places.iter().map(|address| format!("http://{address}")).collect();
        Ok(places.join(", "))
    }

    /// The addresses that were asked for.
    fn addresses(&self, keys: &Keys) -> Result<Vec<SocketAddr>, Failure> {
        let place = || format!("{}:{}", self.host, self.port);
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses: Vec<_> = addresses.with_context(place).or_exit(Exit::Usage)?.collect();
        addresses.iter().try_for_each(|address| self.refuse(*address, keys))?;
        Ok(addresses)
    }

    /// Refuses an address beyond this machine without keys.
    fn refuse(&self, address: SocketAddr, keys: &Keys) -> Result<(), Failure> {
        if address.ip().to_canonical().is_loopback() || !keys.is_empty() {
            return Ok(());
        }
        if self.insecure {
            log::warn!("{address} can be reached from elsewhere, by anybody (--insecure)");
            return Ok(());
        }
        let message = format_args!(
            "{address} can be reached from elsewhere: --api-key-file expected, or --insecure"
        );
        Err(Failure::new(Exit::Usage, message))
    }
}

/// Says so where everybody on this machine can read the keys.
fn warn_of_readers(path: &Path) {
    if fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o004 != 0) {
        log::warn!("{}: everybody on this machine can read the keys (chmod o-r)", path.display());
    }
}

/// Sockets that the process was started with and listens at.
fn inherited() -> Result<Vec<Listener>, Failure> {
    let mut inherited = ListenFd::from_env();
    let mut listeners = Vec::new();
    for i in 0..inherited.len() {
        let listener = match inherited.take_tcp_listener(i) {
            Ok(listener) => listener.map(Listener::Tcp),
            Err(_no_tcp) => inherited.take_unix_listener(i).unwrap_or(None).map(Listener::Unix),
        };
        let Some(listener) = listener.filter(listens) else {
            let message = format_args!("socket {i} of LISTEN_FDS: one that listens expected");
            return Err(Failure::new(Exit::Usage, message));
        };
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listens(listener: &Listener) -> bool {
    let listens = match listener {
        Listener::Tcp(listener) => socket_acceptconn(listener),
        Listener::Unix(listener) => socket_acceptconn(listener),
    };
    listens.unwrap_or(false)
}

fn address(listener: &Listener) -> Option<SocketAddr> {
    match listener {
        Listener::Tcp(listener) => listener.local_addr().ok(),
        Listener::Unix(_) => None,
    }
}

/// A socket at `path`, in place of one that nobody listens at any more.
fn bind_unix(path: &Path) -> Result<UnixListener, Failure> {
    let place = || path.display().to_string();
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path).with_context(place).or_exit(Exit::Failed)?;
    }
    let listener = UnixListener::bind(path).with_context(place).or_exit(Exit::Failed)?;
    let mode = Permissions::from_mode(0o660);
    fs::set_permissions(path, mode).with_context(place).or_exit(Exit::Failed)?;
    Ok(listener)
}

/// Where the listeners are, for people.
pub(crate) fn describe(listeners: &[Listener]) -> String {
    let place = |listener: &Listener| match listener {
        Listener::Tcp(listener) => {
            listener.local_addr().map_or("HTTP".into(), |address| format!("http://{address}"))
        }
        Listener::Unix(listener) => {
            let address = listener.local_addr().ok();
            let path = address.as_ref().and_then(|address| address.as_pathname());
            path.map_or("HTTP".into(), |path| path.display().to_string())
        }
    };
    listeners.iter().map(place).collect::<Vec<_>>().join(", ")
}
