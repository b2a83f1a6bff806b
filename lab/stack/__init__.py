"""Runs a stack by the real Pulumi engine, with state, secrets and plugins in a folder of its own.

The program runs in this process (Pulumi's Automation API), so no language plugin is needed; its
function is the same that the command line runs.

    folder       what the engine needs on disk, and a stack opened in it
    changes      what the engine says it did, or would
    run          preview, up, refresh, destroy
    ended        what a program that failed left behind in this process, ended
    interrupted  what a run that was cut off left behind, taken up again
"""
