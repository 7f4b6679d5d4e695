//! Makes the faults happen, each at its time.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use chrono::{DateTime, Utc};
use eventflow_tests::proxy::Proxy;
use futures_util::future::join_all;
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    cluster::Cluster,
    crew::Numbered,
    message::LONG_WORK_MS,
    recovery::{PATIENCE, Recoveries, Recovery},
    schedule::{Fault, Round, Server},
};

/// How long a worker may take to have something long to do, before a fault meets it without.
const BUSY_WITHIN: Duration = Duration::from_secs(10);

/// A worker that is killed has no more rows than this, if it comes to that in time: what is measured
/// is not how long a backlog takes, whose lapsed rows run one at a time.
const FEW: usize = 30;

#[derive(Debug)]
pub(crate) struct Nemesis<'c> {
    cluster: &'c Cluster,
    recoveries: &'c Recoveries,
    begun: Instant,
    faults: Mutex<BTreeMap<String, u32>>,
    /// When the last connections to Redis were forgotten that nobody may have noticed yet.
    forgotten: Mutex<Option<DateTime<Utc>>>,
}

impl<'c> Nemesis<'c> {
    pub(crate) fn new(cluster: &'c Cluster, recoveries: &'c Recoveries) -> Self {
        Self {
            cluster,
            recoveries,
            begun: Instant::now(),
            faults: Mutex::default(),
            forgotten: Mutex::default(),
        }
    }

    /// Goes through the schedule. A round waits for the end of the one before.
    pub(crate) async fn run(&self, schedule: Vec<(Duration, Round)>) {
        for (time, round) in schedule {
            sleep_until(self.begun + time).await;
            match round {
                Round::Single(fault) => self.measured(fault).await,
                Round::Storm(faults) => {
                    join_all(faults.into_iter().map(async |(delay, fault)| {
                        sleep(delay).await;
                        self.happens(fault).await;
                    }))
                    .await;
                }
            }
        }
    }

    /// How many faults of each kind there were.
    pub(crate) fn faults(&self) -> BTreeMap<String, u32> {
        self.faults.lock().unwrap().clone()
    }

    fn note(&self, fault: &Fault) {
        let time = self.begun.elapsed().as_secs_f64();
        println!("{time:7.1} s  {fault}");
        let mut faults = self.faults.lock().unwrap();
        *faults.entry(fault.kind()).or_default() += 1;
    }

    fn recovered(&self, recovery: Recovery, took: Duration, rows: usize) {
        let (time, took_s) = (self.begun.elapsed(), took.as_secs_f64());
        let time = time.as_secs_f64();
        println!("{time:7.1} s    {recovery}: {rows} after {took_s:.3} s");
        self.recoveries.note(recovery, [took]);
    }

    /// A fault on its own, and the recovery from it.
    async fn measured(&self, fault: Fault) {
        let database = &self.cluster.database;
        match fault {
            Fault::KillWorker { seat } => {
                // Of another one its entries are left, which come again when they have been idle.
                let mut worker = self.cluster.crew.seat_of_owner(seat).await;
                self.is_busy(&worker, FEW).await;
                self.note(&fault);
                worker.kill();
                let killed = Instant::now();
                let claims = database.claims_of(worker.process(), 0).await;
                self.cluster.crew.renew(&mut worker);
                drop(worker);
                if !claims.is_empty() {
                    database.claims_are_over(&claims, PATIENCE).await;
                    let time = killed.elapsed();
                    self.recovered(Recovery::KilledWorker, time, claims.len());
                }
            }
            Fault::KillServer { server, .. } | Fault::RestartServer { server } => {
                if server == Server::Redis {
                    self.has_noticed_forgotten_connections().await;
                }
                self.happens(fault).await;
                let answers = database.now().await;
                let any = server == Server::Postgres;
                let time = database.first_processed(answers, any, PATIENCE).await;
                self.recovered(server.into(), time, 1);
            }
            other => self.happens(other).await,
        }
    }

    async fn note_forgotten_connections(&self) {
        let now = self.cluster.database.now().await;
        *self.forgotten.lock().unwrap() = Some(now);
    }

    /// A reader waits for an answer that does not come, for longer than a recovery takes, and a restart
    /// tells it nothing: waits until an event is handled that was published after that.
    async fn has_noticed_forgotten_connections(&self) {
        let forgotten = self.forgotten.lock().unwrap().take();
        if let Some(forgotten) = forgotten {
            let database = &self.cluster.database;
            database.first_processed(forgotten, false, PATIENCE).await;
        }
    }

    /// Waits until the worker is in the middle of something, with so many rows at most. What one does
    /// whose rows are not stored yet, nobody sees.
    async fn is_busy(&self, worker: &Numbered, most: usize) {
        if !worker.owns_at_birth() {
            return;
        }
        let (begun, process) = (Instant::now(), worker.process());
        let database = &self.cluster.database;
        let is_busy = async || {
            !database.claims_of(process, LONG_WORK_MS).await.is_empty()
                && database.claims_of(process, 0).await.len() <= most
        };
        while begun.elapsed() < BUSY_WITHIN && !is_busy().await {
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn happens(&self, fault: Fault) {
        let Cluster { crew, database, .. } = self.cluster;
        match fault {
            Fault::KillWorker { seat } => {
                let mut worker = crew.seat(seat).await;
                self.note(&fault);
                worker.kill();
                crew.renew(&mut worker);
            }
            Fault::KillWaitingWorker { seat, server, time } => {
                let mut worker = crew.seat(seat).await;
                let network = self.network(&fault, server).await;
                network.stall();
                sleep(time).await;
                worker.kill();
                network.flow();
                crew.renew(&mut worker);
            }
            Fault::PauseWorker { seat, time } => {
                let mut worker = crew.seat(seat).await;
                self.is_busy(&worker, usize::MAX).await;
                self.note(&fault);
                worker.pause(time).await;
            }
            Fault::ReplaceWorker { seat } => {
                let mut worker = crew.seat(seat).await;
                self.note(&fault);
                crew.replace(&mut worker).await;
            }
            Fault::KillServer { server, time } => self.kill(&fault, server, time).await,
            Fault::RestartServer { server } => self.restart(&fault, server).await,
            Fault::Cut { server } => self.network(&fault, server).await.cut(),
            Fault::CutAfter {
                server,
                direction,
                bytes,
            } => {
                let network = self.network(&fault, server).await;
                network.cut_after(direction, bytes);
            }
            Fault::HalfClose { server, direction } => {
                self.network(&fault, server).await.half_close(direction);
            }
            Fault::Stall { server, time } => self.stall(&fault, server, time).await,
            Fault::ForgetConnections => {
                self.network(&fault, Server::Redis).await.forget();
                self.note_forgotten_connections().await;
            }
            Fault::TerminateSessions {
                only_in_transaction,
            } => {
                self.note(&fault);
                database.terminate_sessions(only_in_transaction).await;
            }
        }
    }

    /// The network before a server, once the fault can happen there.
    async fn network(&self, fault: &Fault, server: Server) -> MutexGuard<'_, Proxy> {
        let network = match server {
            Server::Redis => &self.cluster.redis_network,
            Server::Postgres => &self.cluster.postgres_network,
        };
        let network = network.lock().await;
        self.note(fault);
        network
    }

    async fn stall(&self, fault: &Fault, server: Server, time: Duration) {
        let network = self.network(fault, server).await;
        network.stall();
        sleep(time).await;
        network.flow();
    }

    /// While a server is down, its host refuses connections.
    async fn kill(&self, fault: &Fault, server: Server, time: Duration) {
        let mut network = self.network(fault, server).await;
        match server {
            Server::Redis => {
                let mut redis = self.cluster.redis.lock().await;
                network.refuse().await;
                redis.kill();
                sleep(time).await;
                redis.start_again().await;
            }
            Server::Postgres => {
                let mut postgres = self.cluster.postgres.lock().await;
                network.refuse().await;
                postgres.kill();
                sleep(time).await;
                postgres.start_again().await;
            }
        }
        network.accept().await;
    }

    async fn restart(&self, fault: &Fault, server: Server) {
        match server {
            Server::Redis => {
                let mut redis = self.cluster.redis.lock().await;
                self.note(fault);
                redis.restart().await;
            }
            Server::Postgres => {
                let mut postgres = self.cluster.postgres.lock().await;
                self.note(fault);
                postgres.restart().await;
            }
        }
    }
}
