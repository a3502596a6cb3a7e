//! etcd, kube-apiserver, kube-controller-manager and, where pods are to run, kube-scheduler.

use super::access::{Access, Credentials, write_kubeconfig};
use super::pki::Pki;
use crate::http;
use crate::machine;
use crate::parts::KUBERNETES;
use crate::process::{Launch, Process};
use crate::session::Session;
use crate::wait::until;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Range of service addresses; its first address is that of the service `kubernetes`.
pub(super) const SERVICE_RANGE: &str = "10.97.0.0/16";
/// Address of the service `kubernetes`.
pub const SERVICE_ADDRESS: &str = "10.97.0.1";
/// How long the API server may take on a machine that does other things too; about 4 s else.
const READY: Duration = Duration::from_mins(3);

/// Where a control plane listens.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Network namespace that the processes enter; none for the machine's.
    pub netns: Option<PathBuf>,
    /// Address that the API server binds.
    pub bind: String,
    /// Port that the API server binds.
    pub port: u16,
    /// Address that the API server announces.
    pub advertise: String,
    /// Address at which controllers and kubelets reach the API server.
    pub inside: String,
    /// Address at which the machine reaches the API server.
    pub outside: String,
    /// etcd's port for clients.
    pub etcd_port: u16,
    /// etcd's port for peers.
    pub etcd_peer_port: u16,
    /// More arguments for kube-apiserver.
    pub extra_apiserver: Vec<String>,
    /// More arguments for kube-controller-manager.
    pub extra_controller_manager: Vec<String>,
    /// Whether pods are to be scheduled.
    pub scheduler: bool,
}

/// A running control plane; dropping it ends it.
#[derive(Debug)]
pub struct ControlPlane {
    placement: Placement,
    pki: Pki,
    dir: PathBuf,
    commands: PathBuf,
    // In the order of dropping: those that talk before those that are talked to.
    controllers: Vec<Process>,
    apiserver: Mutex<Option<Process>>,
    etcd: Process,
}

impl ControlPlane {
    /// Starts everything below the folder `dir`; returns when the API server is ready.
    pub fn start(dir: &Path, placement: Placement) -> Result<Self> {
        machine::require("etcd", "etcd-server")?;
        machine::require("openssl", "openssl")?;
        let session = Session::shared()?;
        let etcd = session.spawn(etcd(&placement, dir))?;
        let mut plane = Self {
            pki: Pki::create(&dir.join("pki"))?,
            dir: dir.to_owned(),
            commands: KUBERNETES.ensure()?,
            controllers: Vec::new(),
            apiserver: Mutex::new(None),
            etcd,
            placement,
        };
        plane.certify()?;
        plane.start_apiserver()?;
        let admin = plane.admin()?;
        plane.wait_ready(&admin)?;
        // Made by the API server itself, a moment after it says that it is ready.
        until(READY, "the namespace default", || admin.kubectl(&["get", "namespace", "default"]))?;
        plane.controllers.push(session.spawn(plane.controller_manager()?)?);
        if plane.placement.scheduler {
            plane.controllers.push(session.spawn(plane.scheduler()?)?);
        }
        Ok(plane)
    }

    /// The keys of this control plane.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Has etcd forget all that was before now (etcd's JSON gateway): whoever wants to know what happened since then is told
    /// 410, by whatever an API server has of it in its cache.
    pub fn forget_history(&self) -> Result<()> {
        let port = self.placement.etcd_port;
        // Any key: the answer bears the revision.
        let (_, now) = http::post(port, "/v3/kv/range", r#"{"key":"AA=="}"#)?;
        let now: serde_json::Value = serde_json::from_str(&now).with_context(|| now.clone())?;
        let revision = now.pointer("/header/revision").and_then(|r| r.as_str()).context("no revision")?;
        let order = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        let (code, said) = http::post(port, "/v3/kv/compaction", &order)?;
        ensure!(code == 200, "{code}: {said}");
        Ok(())
    }

    /// etcd's process.
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// Access as a member of `system:masters`, from the machine.
    pub fn admin(&self) -> Result<Access> {
        let path = self.dir.join("admin.kubeconfig");
        if !path.exists() {
            let admin = self.pki.client("admin", "admin", Some("system:masters"))?;
            write_kubeconfig(
                &path,
                &self.url(&self.placement.outside),
                &self.pki.authority(),
                &Credentials::Certificate(admin),
            )?;
        }
        Access::new(&path, &self.dir)
    }

    /// Writes a kubeconfig for a component that runs beside the API server.
    pub fn component_kubeconfig(&self, name: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.kubeconfig"));
        let certificate = self.pki.client(name, user, group)?;
        write_kubeconfig(
            &path,
            &self.url(&self.placement.inside),
            &self.pki.authority(),
            &Credentials::Certificate(certificate),
        )?;
        Ok(path)
    }

    /// Starts the API server if it does not run.
    pub fn start_apiserver(&self) -> Result<()> {
        let mut slot = self.slot();
        if slot.is_none() {
            *slot = Some(Session::shared()?.spawn(self.apiserver())?);
        }
        Ok(())
    }

    /// Kills the API server.
    pub fn stop_apiserver(&self) {
        *self.slot() = None;
    }

    /// Freezes the API server.
    pub fn pause_apiserver(&self) -> Result<()> {
        self.signal_apiserver(Signal::STOP)
    }

    /// Lets a frozen API server run on.
    pub fn resume_apiserver(&self) -> Result<()> {
        self.signal_apiserver(Signal::CONT)
    }

    /// Waits until the API server says that it is ready; fails at once if it ends.
    pub fn wait_ready(&self, admin: &Access) -> Result<()> {
        let slot = self.slot();
        let server = slot.as_ref().context("the API server is stopped")?;
        server.ready(READY, "readiness", || admin.kubectl(&["get", "--raw=/readyz"]))?;
        Ok(())
    }

    fn signal_apiserver(&self, signal: Signal) -> Result<()> {
        self.slot().as_ref().context("the API server is stopped")?.signal(signal)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.apiserver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, address: &str) -> String {
        format!("https://{address}:{}", self.placement.port)
    }

    fn certify(&self) -> Result<()> {
        let place = &self.placement;
        let mut names: Vec<String> = [&place.advertise, &place.inside, &place.outside]
            .into_iter()
            .map(|address| format!("IP:{address}"))
            .chain([format!("IP:{SERVICE_ADDRESS}"), "IP:127.0.0.1".into()])
            .chain(
                ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
                    .map(|name| format!("DNS:{name}")),
            )
            .collect();
        names.sort();
        names.dedup();
        self.pki.server("apiserver", &names)?;
        self.pki.client("front-proxy", "front-proxy-client", None)?;
        self.pki.client("apiserver-kubelet", "apiserver-kubelet-client", Some("system:masters"))?;
        Ok(())
    }

    fn apiserver(&self) -> Launch {
        let place = &self.placement;
        let pem = |name: &str| self.dir.join("pki").join(name).display().to_string();
        let flags = [
            ("etcd-servers", format!("http://127.0.0.1:{}", place.etcd_port)),
            ("secure-port", place.port.to_string()),
            ("bind-address", place.bind.clone()),
            ("advertise-address", place.advertise.clone()),
            ("tls-cert-file", pem("apiserver.crt")),
            ("tls-private-key-file", pem("apiserver.key")),
            ("client-ca-file", pem("ca.crt")),
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", pem("service-account.pub")),
            ("service-account-signing-key-file", pem("service-account.key")),
            ("authorization-mode", "Node,RBAC".into()),
            ("enable-admission-plugins", "NodeRestriction".into()),
            ("service-cluster-ip-range", SERVICE_RANGE.into()),
            ("allow-privileged", "true".into()),
            // There is no kube-proxy: webhooks and aggregated APIs are called at their pods' addresses.
            ("enable-aggregator-routing", "true".into()),
            ("endpoint-reconciler-type", "none".into()),
            ("kubelet-preferred-address-types", "InternalIP".into()),
            ("kubelet-client-certificate", pem("apiserver-kubelet.crt")),
            ("kubelet-client-key", pem("apiserver-kubelet.key")),
            ("proxy-client-cert-file", pem("front-proxy.crt")),
            ("proxy-client-key-file", pem("front-proxy.key")),
            ("requestheader-client-ca-file", pem("ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
        ];
        let args = flags.map(|(flag, value)| format!("--{flag}={value}"));
        placed(place, "kube-apiserver", &self.commands.join("kube-apiserver"))
            .args(args)
            .args(&place.extra_apiserver)
    }

    fn controller_manager(&self) -> Result<Launch> {
        let name = "kube-controller-manager";
        let config = self.component_kubeconfig(name, "system:kube-controller-manager", None)?;
        Ok(placed(&self.placement, name, &self.commands.join(name))
            .arg(flag("kubeconfig", &config))
            .arg(flag("service-account-private-key-file", &self.pki.service_account_key()))
            .arg(flag("root-ca-file", &self.pki.authority()))
            .args(["--use-service-account-credentials", "--leader-elect=false", "--secure-port=0"])
            .args(&self.placement.extra_controller_manager))
    }

    fn scheduler(&self) -> Result<Launch> {
        let name = "kube-scheduler";
        let config = self.component_kubeconfig(name, "system:kube-scheduler", None)?;
        Ok(placed(&self.placement, name, &self.commands.join(name))
            .arg(flag("kubeconfig", &config))
            .args(["--leader-elect=false", "--secure-port=0"]))
    }
}

fn etcd(place: &Placement, dir: &Path) -> Launch {
    let client = format!("http://127.0.0.1:{}", place.etcd_port);
    let peer = format!("http://127.0.0.1:{}", place.etcd_peer_port);
    placed(place, "etcd", Path::new("etcd"))
        .arg(flag("data-dir", &dir.join("etcd")))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        // What it holds need not survive the machine.
        .arg("--unsafe-no-fsync")
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn placed(place: &Placement, name: &str, program: &Path) -> Launch {
    match &place.netns {
        Some(netns) => {
            Launch::new(name, "nsenter").arg(format!("--net={}", netns.display())).arg("--").arg(program)
        }
        None => Launch::new(name, program),
    }
}
