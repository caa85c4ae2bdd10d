"""Take the patient out of a DICOM data set: the identifying attributes of the basic confidentiality profile.

PS3.15 Annex E, table E.1-1. UIDs stay, because a result must point to the study and the frame of reference that it
belongs to; so this is what a result needs, not a full de-identification of an archive.
"""

from collections.abc import Iterator
from copy import deepcopy

from pydicom import Dataset
from pydicom.dataelem import DataElement

# Type 1 and 2 attributes: they must be there, without a value.
_EMPTIED = """
PatientName PatientID PatientBirthDate PatientSex ReferringPhysicianName AccessionNumber StudyID StudyDate
StudyTime
"""
_REMOVED = """
AcquisitionComments AcquisitionProtocolDescription ActualHumanPerformersSequence AddressTrial AdmissionID
AffectedSOPInstanceUID AuthorObserverSequence BranchOfService CassetteID CommentsOnRadiationDose
ConfidentialityCode ConsultingPhysicianIdentificationSequence ContentCreatorIdentificationCodeSequence
ContentCreatorName ContributingEquipmentSequence ContributionDescription CustodialOrganizationSequence
DataSetTrailingPadding DerivationDescription DetectorID DeviceSerialNumber DeviceDescription DeviceUID
DigitalSignaturesSequence DischargeDiagnosisDescription DistributionAddress DistributionName FrameComments
GantryID GeneratorID GraphicAnnotationSequence HumanPerformerName HumanPerformerOrganization IconImageSequence
IdentifyingComments ImageComments ImagePresentationComments ImagingServiceRequestComments Impressions
InstanceCreatorUID InstitutionAddress InstitutionCodeSequence InstitutionName InstitutionalDepartmentName
InstitutionalDepartmentTypeCodeSequence InsurancePlanIdentification InterpretationText
IssuerOfAccessionNumberSequence IssuerOfAdmissionID LensMake LensSerialNumber MACParametersSequence
ModifyingSystem NameOfPhysiciansReadingStudy NamesOfIntendedRecipientsOfResults OperatorIdentificationSequence
OperatorsName OrderCallbackPhoneNumber OrderEnteredBy OrderEntererLocation OriginalAttributesSequence
ParticipantSequence PerformedLocation PerformedProcedureStepDescription PerformedProcedureStepID
PerformedStationAETitle PerformedStationName PerformingPhysicianIdentificationSequence PerformingPhysicianName
PersonAddress PersonIdentificationCodeSequence PersonTelephoneNumbers PhysicianApprovingInterpretation
PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence PhysiciansReadingStudyIdentificationSequence
PlateID PrivateInformationCreatorUID ProtocolName ReasonForStudy ReasonForTheImagingServiceRequest
ReasonForTheRequestedProcedure RequestedProcedureDescription ReferencedPatientAliasSequence
ReferencedPatientSequence ReferencedPerformedProcedureStepSequence ReferencedStudySequence
ReferringPhysicianAddress ReferringPhysicianIdentificationSequence ReferringPhysicianTelephoneNumbers
RequestAttributesSequence RequestingPhysician RequestingService ResponsibleOrganization ResponsiblePerson
ResultsComments ReviewerName ScheduledPerformingPhysicianName ScheduledStationAETitle ScheduledStationName
SeriesDescription ServiceEpisodeDescription ServiceEpisodeID StationName StorageMediaFileSetUID StudyComments
StudyDescription StudyIDIssuer TelephoneNumberTrial TextComments TextString TimezoneOffsetFromUTC TopicAuthor
TopicKeywords TopicSubject TopicTitle UniformResourceLocator VerifyingObserverName VerifyingObserverSequence
VerifyingOrganization VisitComments XRaySourceID
"""
EMPTIED = tuple(_EMPTIED.split())
REMOVED = frozenset(_REMOVED.split())
GROUPS = frozenset({0x0010, 0x0012, 0x0032, 0x0038, 0x4000, 0x4008, 0xFFFA, 0xFFFC})
TELLING = frozenset({"PN", "DA", "TM", "DT", "LT", "ST", "UT"})  # names, dates and free text, whatever they are called


def anonymous(dataset: Dataset) -> Dataset:
    """A copy of `dataset` without who the patient is, who cared for them, where and when; also inside sequences."""
    bare = Dataset()
    for element in _elements(dataset):
        bare.add(deepcopy(element))
    _strip(bare)
    for keyword in EMPTIED:
        setattr(bare, keyword, "")
    if "AcquisitionContextSequence" in bare:
        bare.AcquisitionContextSequence = []  # type 2 where it is known at all
    bare.SpecificCharacterSet = "ISO_IR 192"  # texts are decoded by now, and written as UTF-8
    bare.PatientIdentityRemoved = "YES"
    bare.DeidentificationMethod = "counterscan: attributes of the basic profile removed, UIDs kept"
    return bare


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """All but the pixels, which are written anew and would double the memory."""
    for tag in dataset.keys():  # noqa: SIM118 (iterating over a data set decodes it, pixels too)
        if tag != 0x7FE00010:
            yield dataset[tag]


def _strip(dataset: Dataset) -> None:
    for element in list(dataset):
        group = element.tag.group
        overlay_or_curve = group & 0xFF00 in (0x5000, 0x6000)
        if (
            element.tag.is_private
            or group in GROUPS
            or overlay_or_curve
            or element.VR in TELLING
            or element.keyword in REMOVED
            or not element.keyword
        ):
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _strip(item)
