"""The devices of this machine, looked at in a process of its own: the one that plans has no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from acmix_bench.errors import UserError, unknown
from acmix_bench.runs.environment import Environment, this_environment
from acmix_bench.runs.process import Limits, answer_of

SECONDS = 120.0  # in which a driver must have answered


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device: what it is, as `meters.gpu.identity` tells, and the cores near it."""

    name: str
    identity: Mapping[str, Any]
    cores: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """What a protocol names, which does not say which of several it is."""
        return self.name.partition(":")[0]


@cache
def look(name: str) -> Device | UserError:
    """A device by its name, or why it cannot be used here. The CPU is not looked at: it has nothing to tell."""
    if name == "cpu":
        return Device(name=name, identity={})
    answer = answer_of(_look, name, Limits(seconds=SECONDS))
    if answer.status == "ok":
        found: Device = answer.content
        return found
    return UserError(answer.content if answer.status == "user" else f"device={name}: {answer.content}")


def environment_on(name: str) -> Environment:
    """This machine, and the device that is computed on, where it is on this machine."""
    device = look(name)
    return this_environment(device.identity if isinstance(device, Device) else {})


def device_here(name: str) -> Device:
    """A device that is here.

    Raises:
        UserError: where it is not, naming those that are.
    """
    device = look(name)
    if isinstance(device, UserError):
        raise device
    return device


def chosen(names: str, asked: str) -> list[Device]:
    """The devices that somebody lists, as cuda:0,cuda:1, or all accelerators.

    Args:
        asked: the protocol's device, which may be their kind, but not another one.

    Raises:
        UserError: where one is not here, is the CPU or stands twice, there is none, or the protocol asks for another.
    """
    there = [name for name in list_here() if name != "cpu"]
    if not there:
        raise UserError(f"--devices {names}: no accelerator is here; there is cpu")
    listed = there if names == "all" else [name.strip() for name in names.split(",")]
    for name in listed:
        if name not in there:
            raise unknown("device", name, [*there, "all"], where="--devices")
        if listed.count(name) > 1:
            raise UserError(f"--devices {names}: {name} stands twice")
    devices = [device_here(name) for name in listed]
    if asked not in ("cpu", devices[0].kind):
        raise UserError(f"--devices {names}: device={asked} asks for another; leave that out")
    return devices


@cache
def list_here() -> tuple[str, ...]:
    """The names of the devices of this machine.

    Raises:
        UserError: where the driver does not answer.
    """
    answer = answer_of(_list, None, Limits(seconds=SECONDS))
    if answer.status != "ok":
        raise UserError(f"the devices of this machine cannot be listed: {answer.content}")
    return tuple(answer.content)


def _look(name: str) -> Device:
    from acmix_bench.meters import gpu
    from acmix_bench.train import devices

    device = devices.use(name)
    return Device(name=name, identity=gpu.identity(device), cores=tuple(sorted(gpu.cores_near(device))))


def _list(_: None) -> list[str]:
    from acmix_bench.train import devices

    return devices.here()
