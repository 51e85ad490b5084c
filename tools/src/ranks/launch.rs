//! How many processes were started together with this one.

/// What started them, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its name.
    pub launcher: &'static str,
    /// Number of processes, more than 1.
    pub processes: usize,
}

/// Variables in which launchers give the number of processes. Open MPI's mpirun goes first: within an
/// allocation of Slurm's both are there, and the mpirun is what started this process.
const VARIABLES: [(&str, &str); 3] = [
    ("OMPI_COMM_WORLD_SIZE", "mpirun"),
    ("PMI_SIZE", "mpirun"),
    ("SLURM_STEP_NUM_TASKS", "srun"),
];

/// The launch that the `variable`s of the environment tell of; `None` for a process on its own.
pub fn detect(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let (processes, launcher) = VARIABLES.iter().find_map(|(name, launcher)| {
        let processes: usize = variable(name)?.parse().ok()?;
        Some((processes, *launcher))
    })?;
    (processes > 1).then_some(Launch {
        launcher,
        processes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(environment: &[(&str, &str)]) -> Option<(&'static str, usize)> {
        let launch = detect(|name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        launch.map(|launch| (launch.launcher, launch.processes))
    }

    #[test]
    fn each_launcher_is_recognised() {
        assert_eq!(detected(&[]), None);
        assert_eq!(detected(&[("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(
            detected(&[("OMPI_COMM_WORLD_SIZE", "4")]),
            Some(("mpirun", 4))
        );
        assert_eq!(detected(&[("PMI_SIZE", "3")]), Some(("mpirun", 3)));
        assert_eq!(detected(&[("PMI_SIZE", "many")]), None);
        let slurm = ("SLURM_STEP_NUM_TASKS", "8");
        assert_eq!(detected(&[slurm]), Some(("srun", 8)));
        // One process of mpirun's in an allocation for eight.
        assert_eq!(detected(&[slurm, ("OMPI_COMM_WORLD_SIZE", "1")]), None);
    }
}
