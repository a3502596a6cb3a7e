//! Writes the generated CRDs, or says that the committed ones are stale.

use std::path::Path;
use std::process::ExitCode;

/// Where the generated YAML lives; the chart holds the same file.
const TARGETS: [&str; 2] = ["crds/generated/crds.yaml", "deploy/chart/files/crds.yaml"];

fn main() -> ExitCode {
    let check = std::env::args().any(|a| a == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match run(root, check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("crdgen: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, check: bool) -> Result<(), String> {
    let fresh = overcommit_crds::crd::yaml().map_err(|e| format!("cannot render: {e}"))?;
    for target in TARGETS {
        let path = root.join(target);
        if check {
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            if committed != fresh {
                return Err(format!("{target} is stale: run `make generate` and commit the result"));
            }
        } else {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            }
            std::fs::write(&path, &fresh).map_err(|e| format!("{target}: {e}"))?;
        }
    }
    Ok(())
}
