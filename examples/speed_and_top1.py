"""Join two runs to a list of accuracies in the columns of timm's results files, and draw what top-1 costs in speed.

    python examples/speed_and_top1.py speed_and_top1.png

The top-1 of `top1.csv` are the papers' own, as results/published/ has them; speed and MACs were measured here.
"""

import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import acmix_bench

here = Path(__file__).parent
speed = acmix_bench.load(here / "../results/shown/latency").frame()
cost = acmix_bench.load(here / "../results/shown/backbones").frame()[["variant", "macs"]]
table = speed.merge(cost, on="variant").merge(pd.read_csv(here / "top1.csv"), left_on="variant", right_on="model")
figure, axis = plt.subplots(layout="constrained")
rate = table.inference_images_per_s
low, high = table.inference_images_per_s_low, table.inference_images_per_s_high
axis.errorbar(rate, table.top1, xerr=[rate - low, high - rate], fmt="o")
for row in table.itertuples():
    place, label = (row.inference_images_per_s, row.top1), f"{row.model}, {row.macs / 1e9:.1f} G MACs"
    axis.annotate(label, place, (0, 7), textcoords="offset points", ha="center")
axis.set(xlabel="images/s, with 95 % interval", ylabel="ImageNet top-1, %, as published")
axis.margins(x=0.3, y=0.15)
figure.savefig(sys.argv[1])
