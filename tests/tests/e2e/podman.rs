//! Podman with Bulkhead as its runtime.

use bulkhead_tests::{Engine, World};

/// The lines that a script prints.
fn lines(engine: Engine, script: &str) -> Vec<String> {
    let world = World::new();
    let outcome = world.run_with(engine, script);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    outcome.stdout.lines().map(str::to_owned).collect()
}

fn podman(script: &str) -> Vec<String> {
    lines(Engine::Podman, script)
}

#[test]
fn run_has_output_errors_and_exit_codes() {
    let lines = podman(
        "P='podman run --rm --network none image'
         $P sh -c 'echo out; exit 7'; echo code $?
         $P sh -c 'echo err >&2' 2>&1 >/dev/null
         $P nothing-of-the-kind 2>/dev/null; echo code $?
         $P /etc/passwd 2>/dev/null; echo code $?
         echo typed | podman run --rm -i --network none image cat",
    );
    let expected = ["out", "code 7", "err", "code 127", "code 126", "typed"];
    assert_eq!(lines, expected);
}

#[test]
fn container_in_the_background_from_its_start_to_its_end() {
    let lines = podman(
        "podman run -d --name c1 --network none image sh -c 'echo started; sleep 1000' >/dev/null
         until podman logs c1 | grep started; do sleep 0.2; done
         podman exec c1 sh -c 'echo in exec; exit 5'; echo code $?
         podman pause c1 >/dev/null; podman inspect c1 --format '{{.State.Status}}'
         podman unpause c1 >/dev/null; podman inspect c1 --format '{{.State.Status}}'
         podman stats --no-stream --format '{{.Name}}' c1
         podman top c1 -o pid,args | grep -c 'sleep 1000'
         podman restart --time 0 c1 >/dev/null; podman exec c1 echo again
         podman kill c1 >/dev/null; podman wait c1; podman rm c1 >/dev/null
         podman ps --all --quiet",
    );
    let expected = [
        "started", "in exec", "code 5", "paused", "running", "c1", "1", "again", "137",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn stop_is_heard_by_who_listens() {
    let lines = podman(
        "podman run -d --name c1 --network none image \
             sh -c 'trap \"echo heard; exit 3\" TERM; echo ready; while :; do sleep 0.1; done' >/dev/null
         until podman logs c1 | grep -q ready; do sleep 0.2; done
         podman stop c1 >/dev/null; podman logs c1; podman wait c1",
    );
    assert_eq!(lines, ["ready", "heard", "3"]);
}

#[test]
fn what_the_container_changes_is_seen_by_the_engine() {
    let lines = podman(
        "podman run --name c1 --network none image sh -c 'echo data >/new; rm /etc/passwd'
         podman diff c1 | sort
         podman commit --quiet c1 changed >/dev/null
         podman run --rm --network none changed cat /new
         podman cp c1:/new \"$T/copied\"; cat \"$T/copied\"",
    );
    assert_eq!(lines, ["A /new", "C /etc", "D /etc/passwd", "data", "data"]);
}

#[test]
fn images_are_built() {
    let lines = podman(
        "mkdir \"$T/build\"
         printf 'FROM image\\nRUN echo built >/built\\nCMD cat /built\\n' >\"$T/build/Containerfile\"
         podman build --quiet --network none -t built \"$T/build\" >/dev/null
         podman run --rm --network none built",
    );
    assert_eq!(lines, ["built"]);
}

#[test]
fn volumes_limits_and_rights() {
    let lines = podman(
        "P='podman run --rm --network none'
         podman volume create v1 >/dev/null
         $P -v v1:/vol image sh -c 'echo kept >/vol/f'
         $P -v v1:/vol:ro image sh -c 'cat /vol/f; touch /vol/x 2>/dev/null || echo read-only'
         $P --memory 64m --pids-limit 20 --cpus 0.5 image \
             sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max'
         $P --memory 64m image tail /dev/zero; echo code $?
         $P --read-only --tmpfs /scratch image sh -c 'touch /x 2>/dev/null || echo read-only; touch /scratch/x'
         $P --user 1000:1001 image sh -c 'id -u; id -g'
         $P --cap-drop all image chown 5 /etc/passwd 2>/dev/null || echo refused
         $P --shm-size 10m image df -m /dev/shm | tail -1 | awk '{print $1, $2}'
         $P --hostname name image hostname",
    );
    let expected = [
        "kept",
        "read-only",
        "67108864",
        "20",
        "50000 100000",
        "code 137",
        "read-only",
        "1000",
        "1001",
        "refused",
        "shm 10",
        "name",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn attached_streams_and_security_options() {
    let lines = podman(
        "podman run -d -i --name c1 --network none image head -n 1 >/dev/null
         echo typed | podman attach c1; podman wait c1
         P='podman run --rm --network none'
         look='grep -E ^(NoNewPrivs|Seccomp): /proc/self/status'
         $P image $look
         $P --security-opt no-new-privileges --security-opt seccomp=unconfined image $look",
    );
    let expected = [
        "typed",
        // Podman's, at the end of its input.
        "",
        "0",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "Seccomp:\t0",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn health_is_checked() {
    let lines = podman(
        "podman run -d --name c1 --network none --health-cmd 'test -e /ok' \
             --health-interval disable image sleep 1000 >/dev/null
         podman healthcheck run c1 >/dev/null; echo code $?
         podman exec c1 touch /ok; podman healthcheck run c1; echo code $?",
    );
    assert_eq!(lines, ["code 1", "code 0"]);
}

#[test]
fn terminal_is_the_callers() {
    let lines = podman(
        "podman create -it --name c1 --network none image sh -c 'tty; echo shown' >/dev/null
         script -qefc \"podman --root $T/storage --runroot $T/run --tmpdir $T/tmp --storage-driver \
             overlay --cgroup-manager cgroupfs --runtime $BULKHEAD start -a c1\" /dev/null </dev/null",
    );
    let shown: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    assert!(
        shown.iter().any(|line| line.ends_with("/dev/pts/0")),
        "{shown:?}"
    );
    assert!(shown.contains(&"shown"), "{shown:?}");
}

#[test]
fn bridge_has_published_ports_and_names() {
    let lines = podman(
        "page() { for _ in $(seq 30); do busybox nc -w 5 \"$@\" </dev/null | grep page && return; sleep 0.3; done; }
         podman network create --subnet 10.91.0.0/24 net1 >/dev/null
         podman run -d --name web --network net1 --ip 10.91.0.5 -p 8080:80 image \
             sh -c 'while :; do echo page | nc -l -p 80; done' >/dev/null
         page 10.91.0.5 80
         page 10.91.0.1 8080
         podman run --rm --network net1 image \
             sh -c 'for _ in $(seq 20); do timeout 5 nslookup web | grep -o 10.91.0.5 && break; done'",
    );
    assert_eq!(lines, ["page", "page", "10.91.0.5"]);
}

#[test]
fn users_other_than_root_have_containers_too() {
    let script = "P='podman run --rm --network none'
         $P image sh -c 'uname -r | grep -o bulkhead; id -u; touch /x; chown 5:6 /x; stat -c %u:%g /x'
         mkdir \"$T/v\"; $P -v \"$T/v:/v\" image sh -c 'touch /v/a /v/b; chown 7 /v/b'
         stat -c %u \"$T/v/a\" \"$T/v/b\"
         podman run -d --name c1 --network none image sleep 1000 >/dev/null
         podman exec c1 echo in exec; podman rm --force --time 0 c1 >/dev/null";
    let expected = ["bulkhead", "0", "5:6", "1999", "100006", "in exec"];
    assert_eq!(lines(Engine::RootlessPodman, script), expected);
}

#[test]
fn users_other_than_root_have_a_network_too() {
    let script = "busybox nc -ll -p 7777 -e echo from-host >/dev/null 2>&1 & server=$!
         podman run --rm --network slirp4netns:allow_host_loopback=true image sh -c \
             'ip -o addr show tap0 | grep -o 10.0.2.100
              for _ in 1 2 3 4 5 6; do nc -w 10 10.0.2.2 7777 </dev/null && break; done'
         kill $server";
    let lines = lines(Engine::RootlessPodman, script);
    assert_eq!(lines, ["10.0.2.100", "from-host"]);
}
