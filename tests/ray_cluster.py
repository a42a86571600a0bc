"""A Ray cluster of several nodes on this machine, which ends when its standard input does: `python ray_cluster.py`.

It must run where loopback is the only network, because Ray listens on every one. The last node has one core, so that it
is a machine of another kind; where `OTHER_CODE` names a folder, one node more runs the package that lies there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ray.cluster_utils import Cluster

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
nodes.append(cluster.add_node(num_cpus=1))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ["OTHER_CODE"], os.environ.get("PYTHONPATH")]))
nodes.append(cluster.add_node(num_cpus=1))
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
sys.stdin.read()
cluster.shutdown()
