"""Questions to stored video, answered by a cascade: what has hardly changed, the student, and the teacher where needed.

It is NoScope (VLDB 2017): `culling query` finds when a video shows, say, `car >= 3`, and looks at most frames with
nothing dearer than a student, within a bound on wrong answers that a sample certifies.

    question    what is asked, as text                  difference  which frames hardly differ from an earlier one
    place       the polygon whose objects count         bound       how few wrong answers in a sample prove a bound
    eyes        student and teacher, on a video         cascade     what is chosen on one sample, certified on another
    told        what came of it, for people and files   cli         `culling query`
"""
