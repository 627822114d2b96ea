"""What TensorBoard's own reader finds in a folder of event files, as JSON: board.py FOLDER"""
import json
import sys

from tensorboard.backend.event_processing import event_accumulator as reader
from tensorboard.plugins.hparams import plugin_data_pb2 as hparams
from tensorboard.plugins.mesh import plugin_data_pb2 as mesh
from tensorboard.util import tensor_util

a = reader.EventAccumulator(sys.argv[1], size_guidance={key: 0 for key in reader.DEFAULT_SIZE_GUIDANCE})
a.Reload()
tags = a.Tags()
found = {
    "scalars": {t: [[e.step, e.value] for e in a.Scalars(t)] for t in tags["scalars"]},
    "plugins": {t: m.plugin_data.plugin_name for t, m in a.summary_metadata.items()},
    "images": {t: [[e.width, e.height] for e in a.Images(t)] for t in tags["images"]},
    "audio": {t: [[e.sample_rate, e.length_frames, e.content_type] for e in a.Audio(t)] for t in tags["audio"]},
    "histograms": {},
    "tensors": {},
}
for t in tags["histograms"]:
    h = a.Histograms(t)[0].histogram_value
    found["histograms"][t] = {"min": h.min, "max": h.max, "num": h.num, "sum": h.sum, "counts": list(h.bucket), "edges": list(h.bucket_limit)}
for t in tags["tensors"]:
    array = tensor_util.make_ndarray(a.Tensors(t)[0].tensor_proto)
    values = [v.decode() if isinstance(v, bytes) else v for v in array.reshape(-1).tolist()]
    found["tensors"][t] = {"dtype": str(array.dtype), "shape": list(array.shape), "values": values}
for t, m in a.summary_metadata.items():
    if m.plugin_data.plugin_name == "mesh":
        d = mesh.MeshPluginData.FromString(m.plugin_data.content)
        found["tensors"][t]["mesh"] = [d.name, d.content_type, list(d.shape), d.components]
    if m.plugin_data.plugin_name == "hparams":
        d = hparams.HParamsPluginData.FromString(m.plugin_data.content)
        found.setdefault("hparams", {})[t] = {
            "values": {k: getattr(v, v.WhichOneof("kind")) for k, v in d.session_start_info.hparams.items()},
            "status": d.session_end_info.status,
            "metrics": [i.name.tag for i in d.experiment.metric_infos],
            "names": [i.name for i in d.experiment.hparam_infos],
        }
if tags["graph"]:
    found["graph"] = [[n.name, n.op, list(n.input)] for n in a.Graph().node]
print(json.dumps(found))
