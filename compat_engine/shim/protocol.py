"""The conversation between daemon, launcher, shim and init. Shared by both sides, standard library only.

Every message is one SEQPACKET datagram: a JSON object with "op" and the fields below, file descriptors beside it (SCM_RIGHTS).

    daemon                                     launcher
    run {bundle} +fd control               ->  forks a shim that owns the fd; never answers

    daemon                                     shim (over `control`, or a connection to <bundle>/shim.sock)
                                           <-  created {pid}                init exists; its network's namespace too, if it is new
    go {attach} +fds                       ->                               the network is there, and who attached before
                                           <-  started {time} | failed {errno, step, text}
    signal {signal, exec?}                 ->                               pidfd_send_signal to the container or an exec
    resize {rows, columns, exec?}          ->                               TIOCSWINSZ
    attach {stdin, stdout, stderr} +fd     ->                               see below
    watch {} +fd                           ->                               a pipe: one byte when the log grew, EOF at the end
    exec {id, process, attach} +fd?        ->                               process: see spec.dump_process
                                           <-  exec-started {id, pid} | exec-failed {id, errno, step, text}
                                           <-  exec-exited {id, code}
    hello {}                               ->                               first message of a daemon that found us
                                           <-  state {pid, started, execs: [{id, pid}]}
                                           <-  exited {code, oom, time}     after <bundle>/exit.json is in place; then EOF

A shim whose daemon is gone goes on; EOF on a connection is no error. If the first daemon dies before `go`, the shim kills
init, removes the cgroups and leaves: a start is done or not done. Any number of connections may be open; events go to all.

Attach socket (a SOCK_STREAM socketpair whose one end the shim gets; for `go` as many as the message's `attach`, a list of
{stdin, stdout, stderr} objects, describes): the shim writes the process's output on it, in stdcopy frames
([stream 1|2, 0, 0, 0, length u32 BE] + data), raw when the process has a tty; what it reads is stdin, its EOF the end of this
client's stdin (and of the container's when stdin_once). The shim shuts it down after the last byte once the process is gone.
While ATTACH_BUFFER bytes wait for a client the process is held back, as by a pipe that is full: a slow reader loses nothing.
Once the process has ended, a client that takes nothing for STALL_SECONDS is cut off.

<bundle>/ holds spec.json (its first line for the shim, all for init), shim.sock, pid ("shim-pid init-pid\n" once created, then
"started\n") and exit.json ({"code", "oom", "time"}; written by tmp + rename, time in RFC 3339 with nanoseconds).
exit code: 0..255, 128 + signal when killed. Exec exit codes likewise. `step` of a failure is one word; text a sentence.
"""

VERSION = 1
MAX_MESSAGE = 200_000  # bytes; below the default SO_SNDBUF
ATTACH_BUFFER = 4 << 20
STALL_SECONDS = 30

SPEC = "spec.json"
SOCKET = "shim.sock"
PID = "pid"
EXIT = "exit.json"

RUN, CREATED, GO, STARTED, FAILED, EXITED = "run", "created", "go", "started", "failed", "exited"
SIGNAL, RESIZE, ATTACH, WATCH, HELLO, STATE = "signal", "resize", "attach", "watch", "hello", "state"
EXEC, EXEC_STARTED, EXEC_FAILED, EXEC_EXITED = "exec", "exec-started", "exec-failed", "exec-exited"

# between shim and init, on a socket that closes at execve. begin {spec, rootfs}: their paths; stdio +fds: what becomes 0, 1, 2;
# cgroups: they are made; go and failed {...} as above
BEGIN, STDIO, CGROUPS, CONSOLE, EXECUTING = "begin", "stdio", "cgroups", "console", "executing"

SHIM = "shim"  # the step of a failure that is the shim's own: another one may do
