"""What is to go wrong, and where: the file that the environment's FIRECRACKER_SWITCHES names.

It is JSON, `{"STEP": "WHAT", ...}`, and read anew at each step, so that a test may change it at any
time. "ID STEP" holds for the VM of that id only, and comes first. The steps are

    start                before anything is done
    listen               the API socket takes connections
    METHOD /target       a request, e.g. "PUT /drives/rootfs"
    PUT /actions ACTION  e.g. "PUT /actions InstanceStart"
    boot                 the guest is about to start, InstanceStart having been answered
    connect PORT         a host connects to the guest's port

and what may happen there is

    slow MS       it takes so long
    hang          it never comes to an end
    die [STATUS]  the process ends, by SIGKILL or with that exit status

and to a request also

    refuse TEXT   400 with this fault
    ignore        the answer says that it was done
    fail TEXT     500 with this fault
    cut           the connection is closed in the middle of the answer
    garbage       the answer is no HTTP
    flood         the answer has no end
    die-after     it is done and answered, then the process dies
    half          a snapshot is half written, then the process dies
"""

import json
import os
import signal
import time


class Switches:
    def __init__(self, vm_id):
        self.path = os.environ.get("FIRECRACKER_SWITCHES")
        self.vm_id = vm_id

    def at(self, step):
        """What is to happen at this step, as a verb and its argument; ("", "") for nothing.

        What may happen at any step has happened then.
        """
        verb, _, argument = self._read(step).partition(" ")
        if verb == "slow":
            time.sleep(int(argument) / 1000)
        elif verb == "hang":
            while True:
                time.sleep(3600)
        elif verb == "die":
            die(argument)
        else:
            return verb, argument
        return "", ""

    def _read(self, step):
        if not self.path:
            return ""
        try:
            with open(self.path, encoding="utf-8") as file:
                rules = json.load(file)
        except FileNotFoundError:
            return ""
        return rules.get(f"{self.vm_id} {step}", rules.get(step, ""))


def die(status=""):
    """Ends the process at once: with a status, or as if it had been killed."""
    if status:
        os._exit(int(status))
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
