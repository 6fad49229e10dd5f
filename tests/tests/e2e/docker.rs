//! Docker and containerd with Bulkhead as their runtime.

use bulkhead_tests::{Engine, World};

fn lines(script: &str) -> Vec<String> {
    let world = World::new();
    let outcome = world.run_with(Engine::Docker, script);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    outcome.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn docker_runs_watches_and_ends_containers() {
    let lines = lines(
        "D='docker run --runtime bulkhead --network none'
         $D --rm image sh -c 'echo out; exit 7'; echo code $?
         $D --rm image sh -c 'echo err >&2' 2>&1 >/dev/null
         $D --rm image nothing-of-the-kind 2>/dev/null; echo code $?
         $D --rm -t image sh -c 'tty'
         $D -d --name c1 image sh -c 'echo started; sleep 1000' >/dev/null
         until docker logs c1 | grep started; do sleep 0.2; done
         docker exec c1 sh -c 'echo in exec; exit 5'; echo code $?
         docker top c1 | grep -c bulkhead
         docker pause c1; docker unpause c1
         docker update --pids-limit 33 c1 >/dev/null; docker exec c1 cat /sys/fs/cgroup/pids.max
         docker stop --time 0 c1; docker inspect c1 --format '{{.State.ExitCode}}'
         docker start c1; docker rm --force c1
         $D -d --name c2 --restart on-failure:1 image sh -c 'exit 3' >/dev/null
         until docker inspect c2 --format '{{.RestartCount}} {{.State.Status}}' | grep '1 exited'; do
             sleep 0.2
         done",
    );
    let shown: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    let expected = [
        "out",
        "code 7",
        "err",
        "code 127",
        "/dev/pts/0",
        "started",
        "in exec",
        "code 5",
        "1",
        "c1",
        "c1",
        "33",
        "c1",
        "137",
        "c1",
        "c1",
        "1 exited",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn containerd_runs_and_ends_containers() {
    let lines = lines(
        "docker save image >\"$T/saved.tar\"; ctr image import \"$T/saved.tar\" >/dev/null
         I=docker.io/library/image:latest; R=\"--runc-binary $BULKHEAD\"
         ctr run --rm $R $I c1 sh -c 'uname -r | grep -o bulkhead; exit 3'; echo code $?
         ctr run -d $R $I c2 sleep 1000
         ctr task exec --exec-id e1 c2 sh -c 'echo in exec; exit 4'; echo code $?
         ctr task pause c2; ctr task ls | grep -o PAUSED; ctr task resume c2
         ctr task metrics c2 | grep -c memory
         ctr task kill -s KILL c2; until ctr task ls | grep -o STOPPED; do sleep 0.2; done
         ctr container rm c2; ctr container ls --quiet",
    );
    assert_eq!(
        lines[..6],
        [
            "bulkhead", "code 3", "in exec", "code 4", "PAUSED", &lines[5]
        ]
    );
    assert_eq!(lines[6..], ["STOPPED"]);
}

#[test]
fn docker_has_published_ports() {
    let lines = lines(
        "serve='while :; do echo page | nc -l -p 80; done'
         docker run --runtime bulkhead -d --name web -p 8080:80 image sh -c \"$serve\" >/dev/null
         IP=$(docker inspect web --format '{{.NetworkSettings.IPAddress}}')
         until busybox nc -w 5 $IP 80 </dev/null | grep page; do sleep 0.3; done
         until busybox nc -w 5 $IP 80 </dev/null | grep page; do sleep 0.3; done
         docker run --runtime bulkhead --rm image \
             sh -c \"until nc -w 5 $IP 80 </dev/null | grep page; do sleep 0.3; done\"
         HOST=$(ip -o -4 addr show docker0 | grep -o '172[0-9.]*' | head -1)
         until busybox nc -w 5 $HOST 8080 </dev/null | grep page; do sleep 0.3; done",
    );
    assert_eq!(lines, ["page"; 4]);
}
