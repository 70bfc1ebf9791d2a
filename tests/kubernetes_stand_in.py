"""A stand-in for the part of a Kubernetes API that Snakemake's plugin calls: it notes each job and runs the job's command on this machine, in a folder of its own, as the pod would. It schedules nothing,
pulls no image and knows no limit, so what it shows is that the profile's jobs are what they should be and that their commands do their work; not that a cluster would take them."""
import json, os, re, subprocess, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class StandIn:
    "`with StandIn(folder, run) as api:` serves on a free port of the loopback; `api.config` is a kubeconfig for it, `api.jobs` what was sent, `api.ended` how each job's command ended."
    def __init__(self, folder: Path, env: dict, run=True):
        self.folder, self.env, self.run, self.jobs, self.ended, self.running = Path(folder), env, run, {}, {}, {}

    def __enter__(self):
        api = self
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_): pass
            def answer(self, body, code=200):
                text = json.dumps(body).encode()
                self.send_response(code); self.send_header("Content-Type", "application/json"); self.send_header("Content-Length", str(len(text))); self.end_headers(); self.wfile.write(text)
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.endswith("/jobs"): api.start(body)
                self.answer(body, 201)
            def do_GET(self):
                job = re.search(r"/jobs/([\w-]+)/status", self.path)
                self.answer(dict(metadata=dict(name=job[1]), status=api.status(job[1])) if job else dict(items=[], metadata={}))
            def do_DELETE(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0)); self.answer(dict(status="Success"))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.config = self.folder / "kubeconfig"
        here = dict(cluster="here", user="me")
        self.config.write_text(json.dumps(dict(apiVersion="v1", kind="Config", clusters=[dict(name="here", cluster=dict(server=f"http://127.0.0.1:{self.server.server_port}"))],
            users=[dict(name="me", user={})], contexts=[dict(name="here", context=here)]) | {"current-context": "here"}))
        return self

    def __exit__(self, *_):
        for p in self.running.values():
            if p.poll() is None: p.kill()
        self.server.shutdown()

    def start(self, body):
        name = body["metadata"]["name"]; self.jobs[name] = body["spec"]["template"]["spec"]
        pod = self.jobs[name]["containers"][0]
        if self.run:
            work = self.folder / "pods" / name; work.mkdir(parents=True)
            self.running[name] = subprocess.Popen([*pod["command"], *pod["args"]], cwd=work, env=self.env, stdout=open(work / "log.txt", "w"), stderr=subprocess.STDOUT)

    def status(self, name):
        code = self.running[name].poll() if self.run else 1
        if code is None: return dict(active=1)
        self.ended[name] = code
        return dict(succeeded=1) if code == 0 else dict(failed=1)
