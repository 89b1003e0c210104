"""dicomweb-client searches for a granted study and retrieves it, whole and in parts.

Further from the environment: PEER_STUDY_FOLDER (folder with the files of the granted study, and of nothing else),
PEER_OTHER_STUDY (UID of a study that is there and not granted, if any).
"""

import importlib.metadata
import os
import pathlib
import warnings

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient

from backend import DICOMWEB, bearer, check, run, say

# An answer that is no multipart is one that DICOM does not allow; the client only warns.
warnings.simplefilter("error")

files = sorted(path for path in pathlib.Path(os.environ["PEER_STUDY_FOLDER"]).rglob("*") if path.is_file())
local = {}
for path in files:
    dataset = pydicom.dcmread(path)
    local[str(dataset.SOPInstanceUID)] = (dataset, path.read_bytes())
STUDY = str(next(iter(local.values()))[0].StudyInstanceUID)
OTHER = os.environ.get("PEER_OTHER_STUDY", "1.2.3.4.5")


def status_of(call):
    try:
        call()
    except requests.HTTPError as error:
        return error.response.status_code
    return 200


def same(dataset):
    """A data set as it was sent, and in the transfer syntax in which it was sent."""
    there, _ = local[str(dataset.SOPInstanceUID)]
    check(dataset == there, f"{dataset.SOPInstanceUID} is the same")
    check(dataset.file_meta.TransferSyntaxUID == there.file_meta.TransferSyntaxUID, "the transfer syntax is the same")


def plain(element):
    """An element's values, to be compared: numbers as numbers, since JSON says 5 where DICOM says 5.000."""
    values = element.value if element.VM > 1 else [element.value]
    return [float(one) if element.VR in ("DS", "IS", "FL", "FD", "US", "SS", "UL", "SL") else str(one) for one in values]


def value(found, tag):
    return found[tag]["Value"][0]


def scenario():
    check(status_of(lambda: DICOMwebClient(DICOMWEB).search_for_studies()) == 401, "without a token nothing is found")
    say("was refused without a token")

    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {bearer()}"
    answers = []
    client = DICOMwebClient(DICOMWEB, session=session)
    # A failure is to be seen at once, not after retries.
    client.set_http_retry_params(retry=False)

    studies = client.search_for_studies(search_filters={"StudyInstanceUID": STUDY})
    check([value(one, "0020000D") for one in studies] == [STUDY], "the study is found by its UID")
    check(value(studies[0], "00201208") == len(local) if "00201208" in studies[0] else True, "its instances are counted")
    everything = client.search_for_studies(limit=1, get_remaining=True)
    check(STUDY in {value(one, "0020000D") for one in everything}, "the study is found among all, one a page")
    check(OTHER not in {value(one, "0020000D") for one in everything}, "what is not granted is not found")
    patient = local[next(iter(local))][0].PatientID
    check(len(client.search_for_studies(search_filters={"PatientID": patient})) >= 1, "the study is found by the patient's number")
    check(client.search_for_studies(search_filters={"PatientID": "nobody's"}) == [], "nothing is found for nobody")
    say("searched for studies", found=len(everything))

    series = client.search_for_series(STUDY)
    uids = {str(dataset.SeriesInstanceUID) for dataset, _ in local.values()}
    check({value(one, "0020000E") for one in series} == uids, "all series are found")
    check(all("00080060" in one for one in series), "each with its modality")
    found = [one for uid in uids for one in client.search_for_instances(STUDY, uid)]
    check({value(one, "00080018") for one in found} == set(local), "all instances are found")
    check(len(client.search_for_instances(STUDY)) == len(local), "also those of the whole study")
    check(len(client.search_for_instances(STUDY, limit=1, offset=1)) == min(1, len(local) - 1), "limit and offset are kept")
    say("searched for series and instances", series=len(series), instances=len(found))

    one = next(iter(local.values()))[0]
    at = (STUDY, str(one.SeriesInstanceUID), str(one.SOPInstanceUID))
    for metadata, count in (
        (client.retrieve_study_metadata(STUDY), len(local)),
        (client.retrieve_series_metadata(*at[:2]), sum(str(each.SeriesInstanceUID) == at[1] for each, _ in local.values())),
        (client.retrieve_instance_metadata(*at), 1),
    ):
        metadata = metadata if isinstance(metadata, list) else [metadata]
        check(len(metadata) == count, "metadata of each instance")
        for each in metadata:
            read = pydicom.Dataset.from_json(each, bulk_data_uri_handler=lambda *_: None)
            there, _ = local[str(read.SOPInstanceUID)]
            check("InlineBinary" not in each.get("7FE00010", {}), "pixels are no metadata")
            for element in there:
                if element.tag.group == 0x7FE0 or element.VR in ("OB", "OW", "UN", "SQ") or element.is_empty:
                    continue
                check(element.tag in read, f"{element.tag} is among the metadata")
                check(plain(read[element.tag]) == plain(element), f"{element.tag} is the same")
    say("read metadata of study, series and instance")

    same(client.retrieve_instance(*at))
    retrieved = client.retrieve_series(*at[:2])
    for each in retrieved:
        same(each)
    whole = client.retrieve_study(STUDY)
    check({str(each.SOPInstanceUID) for each in whole} == set(local), "the study is whole")
    streamed = 0
    for each in client.iter_study(STUDY, media_types=(("application/dicom", "*"),)):
        same(each)
        streamed += 1
    check(streamed == len(local), "streamed it is whole too")
    say("retrieved study, series and instance", instances=streamed)

    # Byte by byte, by the client's hook for answers.
    watching = DICOMwebClient(DICOMWEB, session=session, callback=lambda answer, *_, **__: answers.append(answer))
    watching.retrieve_study(STUDY)
    content_type = answers[-1].headers["Content-Type"]
    check(content_type.startswith("multipart/related") and 'type="application/dicom"' in content_type, content_type)
    check(all(data in answers[-1].content for _, data in local.values()), "each file is there byte by byte")
    session.hooks = {"response": []}
    say("compared the bytes", bytes=sum(len(data) for _, data in local.values()))

    # Frames are no part of what a facade that opens no pixels must do: served right, or refused.
    status = status_of(lambda: answers.append(client.retrieve_instance_frames(*at, [1])))
    check(status in (200, 404, 406, 501), f"frames are answered with {status}")
    if status == 200:
        check(answers[-1][0] == one.PixelData[: len(answers[-1][0])] and len(answers[-1]) == 1, "the frame is the pixels")
    say("asked for a frame", status=status)

    jpeg = (("application/dicom", "1.2.840.10008.1.2.4.50"),)
    if one.file_meta.TransferSyntaxUID != jpeg[0][1]:
        check(status_of(lambda: client.retrieve_instance(*at, media_types=jpeg)) == 406, "no other transfer syntax is made up")
    for missing in (OTHER, "1.2.3.4.5.6.7"):
        check(status_of(lambda: client.retrieve_study(missing)) == 404, f"{missing} is not there")
        check(status_of(lambda: client.retrieve_study_metadata(missing)) == 404, f"{missing} has no metadata")
    say("was refused what is not granted or not there")


run("dicomweb-client", importlib.metadata.version("dicomweb-client"), scenario)
