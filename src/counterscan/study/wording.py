"""What readers are told, unless a study says it in its own words."""

from counterscan.study.records import Task

TITLES: dict[Task, str] = {
    "real-or-synthetic": "Real or synthetic?",
    "forced-choice": "Which is synthetic?",
    "odd-one-out": "Which is the odd one out?",
    "realism": "How realistic?",
    "side-by-side": "Which is more realistic?",
    "lesion": "Is the finding there?",
}
QUESTIONS: dict[Task, str] = {
    "real-or-synthetic": "Is this picture real or synthetic, and how sure are you?",
    "forced-choice": "One picture is real and one is synthetic. Which one is synthetic?",
    "odd-one-out": "All pictures but one are of the same kind, real or synthetic. Which one is the odd one out?",
    "realism": "How realistic is this picture?",
    "side-by-side": "Which of the two pictures looks more like a real one?",
    "lesion": "Does this picture show {lesion}, and how sure are you?",
}
INSTRUCTIONS: dict[Task, str] = {
    "real-or-synthetic": "You will see one picture at a time. Some are real scans, the others were made or changed "
    "by a computer. Say which you think it is, and how sure you are from 1 (a guess) to 5 (certain).",
    "forced-choice": "You will see two pictures side by side: one is a real scan, the other was made or changed by "
    "a computer. Choose the synthetic one; where you cannot tell, guess.",
    "odd-one-out": "You will see {k} pictures. Either one is synthetic and the others are real scans, or one is real "
    "and the others are synthetic. Choose the one that differs; where you cannot tell, guess.",
    "realism": "You will see one picture at a time. Rate how realistic it looks, and tick what looks wrong, if "
    "anything does.",
    "side-by-side": "You will see two synthetic pictures side by side. Choose the one that looks more like a real "
    "scan; where you cannot tell, guess.",
    "lesion": "You will see one picture at a time. Say whether it shows {lesion}, and how sure you are from 1 (a "
    "guess) to 5 (certain).",
}
WITH = (
    " Beside it is what a computer found: how the picture would look if a classifier had answered otherwise, and where "
    "it would differ; or where the classifier saw evidence. It can be wrong; the judgement is yours."
)
PREVALENCE = " Of the pictures of this part, {share} are {what}."
FEEDBACK = " After each of the first {n} pictures, which are for practice, you will be told the truth."
PRACTICE = " The first {n} are for practice and do not count."
ANCHORS = (
    "Certainly not real: something is impossible in a scan",
    "Probably not real: something looks clearly wrong",
    "Cannot tell: something is odd, but a real scan might look so",
    "Probably real: hardly anything looks odd",
    "Certainly real: could come from my own archive",
)
REASONS = (
    "anatomy",
    "texture",
    "edges or blur",
    "noise",
    "symmetry",
    "devices or text",
    "ribs or vessels that end or repeat",
    "the finding itself",
)
EXPLAINS: tuple[Task, ...] = ("real-or-synthetic", "realism")  # tasks that ask for reasons
