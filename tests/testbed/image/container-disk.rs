//! KubeVirt's container-disk: runs in a pod's container whose image holds a disk or a kernel. virt-handler connects
//! to its socket to learn the container's process, and through that its mounts. A static binary, since the image
//! that it is run in holds no library.
//!
//! Arguments: `--copy-path PATH` (the socket is PATH.sock) or `--no-op` (the copy worked: end at once).

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--no-op") {
        return ExitCode::SUCCESS;
    }
    let Some(path) = copy_path(&arguments) else {
        eprintln!("usage: container-disk --copy-path PATH | --no-op");
        return ExitCode::from(2);
    };
    match serve(Path::new(&format!("{path}.sock"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{path}.sock: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy_path(arguments: &[String]) -> Option<&str> {
    let at = arguments.iter().position(|argument| argument == "--copy-path")?;
    arguments.get(at + 1).map(String::as_str)
}

/// Accepts and closes, until somebody removes the socket's file: so virt-launcher says that the guest has ended.
fn serve(socket: &Path) -> std::io::Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    while socket.exists() {
        while listener.accept().is_ok() {}
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}
