"""Jobs as pods of a Kubernetes cluster; `adapter.py` is the backend, the rest its parts.

An attempt is one Secret, named by the attempt, and one bare pod a worker, owned by it:

    Secret <attempt>          what to run: the start script, input.json, the courier's own code and keys
    Pod    <attempt>-<rank>   init container `fetch`, sidecar `courier`, and `main`, the job's image
    Service <attempt>         headless, for gangs, where the cluster has a DNS and the options say so

The Secret comes first and is the intent: whoever finds it without its mark makes the pods that are missing,
under names that can be made only once, and marks it. After the mark no pod is ever made again, so that one that
is gone is an attempt that ended, never one that runs twice. Deleting the Secret removes all of it.

How files move, and why so. A job's image may hold nothing but its program, the cluster may have no volume that
several nodes can write, and the server may stand outside of it. So nothing is asked of image or storage: the pod
brings its own hands, a courier in an image of ours, and the pod's own emptyDir volumes. *In*, the courier fetches
source and inputs from the server's listener with the job's token: pulled, so that any replica can serve a pod that
another one created, a fetch that breaks is tried again, and a crash between creating a pod and filling it needs no
healing. *Out*, the courier keeps what the job prints and makes, and hands it out when asked, by offset, through the
API server's proxy: asked for, so that what a replica that died had read is read again by the next one, exactly, and
nothing has to be sent to a server that is away. The courier is a container of its own, so it outlives a main
container that crashes or runs out of memory, and ends only when told that everything is taken. Of the ways not
taken, `exec` costs a process for every look and a stream that breaks for every long one; the kubelet's logs mix both
streams, replace what is not UTF-8 and are cut at 10 MB; a PUT from the pod needs a server that stands there when the
job ends, and space for what nobody has asked for. What it costs: the pod's node is where unread output lies, and
is lost with it; and the API server must reach pods, as it does for `kubectl proxy`.
"""
