//! A TCP proxy in front of a server: the network, as bad as a test wants it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// A proxy on a free port; it ends with its connections when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    accepting: Option<JoinHandle<()>>,
}

/// What connections look at while they run.
#[derive(Debug)]
struct Network {
    state: watch::Sender<State>,
    /// Bytes that still pass, all connections together, before one is cut.
    budgets: Mutex<[Option<usize>; 2]>,
    /// What no connection carries, per direction: it is cut before that.
    forbidden: Mutex<[Option<&'static str>; 2]>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// Where new connections lead.
    server: SocketAddr,
    stalled: bool,
    delay: Duration,
    /// Grows with each cut.
    cuts: u64,
    /// Grows each time that connections are forgotten.
    forgotten: u64,
    /// Grows with each half close, per direction.
    half_closes: [u64; 2],
}

impl Proxy {
    /// Starts a proxy in front of the server on this port.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::new(Network {
            state: watch::Sender::new(State {
                server: local(server),
                stalled: false,
                delay: Duration::ZERO,
                cuts: 0,
                forgotten: 0,
                half_closes: [0; 2],
            }),
            budgets: Mutex::default(),
            forbidden: Mutex::default(),
        });
        let mut proxy = Self {
            address,
            network,
            accepting: None,
        };
        proxy.serve(listener);
        proxy
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of a server, with the proxy's port in place of the server's.
    pub fn url(&self, server: &str) -> String {
        let port = format!(":{}", self.network.state.borrow().server.port());
        assert!(server.contains(&port), "{server} is not the proxy's server");
        server.replacen(&port, &format!(":{}", self.port()), 1)
    }

    /// Takes new connections to the server on this port, as a name does that moves to another
    /// host; those that are open stay where they are.
    pub fn redirect(&self, server: u16) {
        let server = local(server);
        self.network
            .state
            .send_modify(|state| state.server = server);
    }

    /// Resets all connections.
    pub fn cut(&self) {
        self.network.state.send_modify(|state| state.cuts += 1);
    }

    /// Refuses new connections, as a host without the server does.
    pub async fn refuse(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The port is closed when the task is gone.
            accepting.await.unwrap_or_default();
        }
    }

    /// Takes connections again.
    pub async fn accept(&mut self) {
        if self.accepting.is_none() {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.serve(listener);
        }
    }

    /// Swallows everything, in both directions, while connections stay open and new ones are
    /// taken: a black hole.
    pub fn stall(&self) {
        self.network.state.send_modify(|state| state.stalled = true);
    }

    /// Delivers what was swallowed, and lets everything through again.
    pub fn flow(&self) {
        self.network
            .state
            .send_modify(|state| state.stalled = false);
    }

    /// Swallows everything of the connections that are open, for good, while new ones work: they
    /// are half open.
    pub fn forget(&self) {
        self.network.state.send_modify(|state| state.forgotten += 1);
    }

    /// Ends one direction of all connections, cleanly; the other stays open.
    pub fn half_close(&self, direction: Direction) {
        self.network
            .state
            .send_modify(|state| state.half_closes[direction as usize] += 1);
    }

    /// Delivers everything later by this time, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.network.state.send_modify(|state| state.delay = delay);
    }

    /// Resets the connection that goes beyond so many further bytes in a direction, once. The
    /// bytes of all connections count.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        self.network.budgets.lock().unwrap()[direction as usize] = Some(bytes);
    }

    /// Resets the connection that is about to carry this text in a direction, once. What comes
    /// before the text passes.
    pub fn cut_before(&self, direction: Direction, text: &'static str) {
        self.network.forbidden.lock().unwrap()[direction as usize] = Some(text);
    }

    fn serve(&mut self, listener: TcpListener) {
        let network = Arc::clone(&self.network);
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, Arc::clone(&network)));
            }
        }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.as_ref().inspect(|task| task.abort());
        self.cut();
    }
}

/// A connection was cut.
struct Cut;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn connect(mut client: TcpStream, network: Arc<Network>) {
    let mut cuts = network.state.subscribe();
    let before = *cuts.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(before.server).await else {
        return client.set_zero_linger().unwrap_or_default();
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap_or_default();
    }
    let cut = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let to_server = pump(client_read, server_write, Direction::ToServer, &network);
        let to_client = pump(server_read, client_write, Direction::ToClient, &network);
        tokio::select! {
            pumped = async { tokio::try_join!(to_server, to_client) } => pumped.is_err(),
            _ = cuts.wait_for(|state| state.cuts != before.cuts) => true,
        }
    };
    if cut {
        // The peers see a reset, not an end.
        for stream in [&client, &server] {
            stream.set_zero_linger().unwrap_or_default();
        }
    }
}

/// Carries bytes one way until their end or a half close, and passes the end on.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    network: &Network,
) -> Result<(), Cut> {
    let mut state = network.state.subscribe();
    let before = *state.borrow();
    let half_closes = before.half_closes[direction as usize];
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.map_err(|_| Cut)?,
            _ = state.wait_for(|state| state.half_closes[direction as usize] != half_closes) => 0,
        };
        let delay = state.borrow().delay;
        tokio::time::sleep(delay).await;
        state
            .wait_for(|state| !state.stalled && state.forgotten == before.forgotten)
            .await
            .map_err(|_| Cut)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| Cut);
        }
        let passed = network.pass(direction, &buffer[..read]);
        to.write_all(&buffer[..passed]).await.map_err(|_| Cut)?;
        if passed < read {
            return Err(Cut);
        }
    }
}

impl Network {
    /// How many of these bytes pass.
    fn pass(&self, direction: Direction, bytes: &[u8]) -> usize {
        let forbidden = &mut self.forbidden.lock().unwrap()[direction as usize];
        if let Some(place) = forbidden.and_then(|text| find(bytes, text)) {
            *forbidden = None;
            return place;
        }
        let bytes = bytes.len();
        let mut budgets = self.budgets.lock().unwrap();
        let budget = &mut budgets[direction as usize];
        match *budget {
            Some(left) if bytes > left => {
                *budget = None;
                left
            }
            Some(left) => {
                *budget = Some(left - bytes);
                bytes
            }
            None => bytes,
        }
    }
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    let mut places = bytes.windows(text.len());
    places.position(|bytes| bytes == text.as_bytes())
}
