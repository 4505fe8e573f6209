"""What the page says of the method."""

METHOD = """\
    python -m reports.benchmarks.scale --json reports/benchmarks/scale/scale.json --column after

The driver of a study schedules in one thread. If that thread cannot keep up, GPUs wait. The columns are states of the
code; the section "Machine" names their commits.

- **Cost of each call.** The study is the shipped `cifar10` with 50 epochs and a synthetic learning curve; 100 of its
  trials are running. About 100 trials are trained through the conductor; the rows of the others are copies of theirs
  with slightly different numbers. Each study is measured in a process of its own. Figures are medians of the
  processor time of the calling thread, so other work on the machine and waiting for the disk do not count. Memory is
  that of the process without Ray and MLflow. A `tick` is measured when more than a second has passed since the one
  before.
- **Round trips** are counted by a proxy before PostgreSQL, which can add a delay; statements and transactions by the
  events of SQLAlchemy. On the server with a delay the wall time counts, because there the thread waits.
- **100 GPUs in virtual time.** Every call is made for real, through the conductor, a ledger on SQLite, ASHA and the
  sampler. Its processor time is what the one virtual thread is busy for, `tick` before every event and `best.yaml`
  after it included. "Thread waits" is how long it waits for the thread that makes suggestions, by that thread's
  processor time; what that thread does ahead gets as much of it as virtual time passes. "Process busy" is all of it.
  Ray's own work and waiting for the disk are not included. An epoch takes 18 to 22 s. The shares are those until the
  last trial was handed out.
- **Trials that do nothing** have one epoch of no time, on this machine's Ray; 16 run at once. `hpo` has its defaults.
  `stock` is a function trainable of Ray with OptunaSearch on SQLite and Ray's MLflow callback. The first tenth of the
  trials is not counted. This is wall time, so a busy machine shows in it; the processor time of the driver's process
  is beside it. Both stacks run in turn in one call.
- **Killed and resumed.** SIGKILL ends the driver; the time runs from the start of `hpo resume`, the start of Python
  and of Ray included, to a new trial in the ledger. Where only some trials were trained, the rows of the others are
  copies, and MLflow is off.
"""

LIMITS = """\
Other work ran on the machine, as the load averages say; for the column "after" at a lower priority. So wall times are
too long, and processor times are above those of a quiet machine. In the column "before" the study of trials that do
nothing is short, most trials of the resumed study are copies, and PostgreSQL was not measured at 10,000 trials.
"""
