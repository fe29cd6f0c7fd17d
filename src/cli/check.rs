//! `penstock check`

use std::path::Path;

use super::{Failure, planned};

/// Loads and plans the configuration and opens no socket; what is probably not meant is said too.
pub(super) fn main(path: &Path) -> Result<(), Failure> {
    let (plan, loaded) = planned(path)?;
    for warning in &plan.warnings {
        eprintln!("{warning} (a warning)");
    }
    let files: Vec<_> = loaded.files.iter().map(|(source, _)| source.path.display().to_string()).collect();
    let (inputs, outputs, routes) = (plan.inputs.len(), plan.outputs.len(), plan.routes.len());
    println!("{}: good ({inputs} inputs, {outputs} outputs, {routes} routes)", files.join(", "));
    Ok(())
}
